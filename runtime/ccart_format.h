/* One function a chunk: lists its content for the writer and the reader (ccart_format.c). */
#ifndef CCART_FORMAT_H
#define CCART_FORMAT_H
#include "ccart.h"
#include "ccart_stream.h"

void ccart_chunk_meta(ccart_stream *s,
                      ccart_file *f); /* first: makes the targets that the other chunks fill */
void ccart_chunk_facts(ccart_stream *s, ccart_file *f);
void ccart_chunk_graph(ccart_stream *s, ccart_file *f);
void ccart_chunk_report(ccart_stream *s, ccart_file *f);
void ccart_chunk_kernels(ccart_stream *s, ccart_target *t);
void ccart_chunk_ptx(ccart_stream *s, ccart_target *t); /* after the kernels */
void ccart_chunk_programs(ccart_stream *s, ccart_target *t);
void ccart_chunk_weights(ccart_stream *s, ccart_target *t);
void ccart_chunk_traffic(ccart_stream *s, ccart_target *t); /* after the programs */
#endif
