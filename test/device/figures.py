#!/usr/bin/env python3
"""The numbers of a GPU, one section after the other: start, attach, graphs, memory, speed, attention. Prints rows of the summary; the figures
of `cccrt bench` go to OUT/bench.json, those of attention alone to OUT/attention.json. Bounds are those that the project promises; times and rates
of kernels it promises on an H100, on another device they are printed without a verdict. Every section stands alone and may fail alone.
usage: figures.py ROOT OUT [SECTION]...      all when none is named
       figures.py ROOT OUT beside PEER...    what run compares these peers with, as far as it is not in OUT yet"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

from table import row

ROOT, OUT = (os.path.abspath(x) for x in sys.argv[1:3])
CCCRT = os.path.join(ROOT, "build", "bin", "cccrt")
PROMPT = ",".join(str(17 * i % 1000 + 3) for i in range(32))
GGUF = os.environ.get("CCC_TEST_GGUF", "/tmp/ccc-model/smollm2.gguf")
MB, GB = 1e6, 1e9
ROOM = 18 * GB  # the prepared file of the 8B model, and some


H100 = "NVIDIA H100 80GB HBM3"  # as the driver calls it: an H100 with HBM2e or PCIe is another device


def promised(device, what, bound, value, ok):
    """A row against a bound that holds on an H100."""
    mine = device == H100
    row(what, bound if mine else f"of an H100: {bound}", value, ok if mine else None)


def artifact(name):
    return os.path.join(ROOT, "artifacts", name + ".ccart")


def cccrt(*args, timeout=150):
    r = subprocess.run([CCCRT, *args], capture_output=True, text=True, timeout=timeout)
    if r.returncode:
        raise RuntimeError(f"cccrt {args[0]}: {r.stderr.strip() or r.stdout[-200:]}")
    return r.stdout


def info(name):
    r = subprocess.run([CCCRT, "info", "--json", artifact(name)], capture_output=True, text=True, timeout=60)
    return json.loads(r.stdout)


# ---- start
def first_byte_ms(argv):
    start = time.perf_counter()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = p.stdout.read(1)
    ms = 1e3 * (time.perf_counter() - start)
    _, err = p.communicate(timeout=60)
    if p.returncode or not first:
        raise RuntimeError(f"{argv[0]}: {err.decode().strip()}")
    return ms, 1e3 * (time.perf_counter() - start)


def start():
    sources = [("random weights", "smollm2-135m", "random:1")] + (
        [("GGUF", "smollm2-gguf", GGUF)] if os.path.exists(GGUF) and os.path.exists(artifact("smollm2-gguf")) else []
    )
    bare = [os.path.join(ROOT, "bare")]
    for what, name, weights in sources:
        argv = [
            CCCRT,
            "run",
            artifact(name),
            "--weights",
            weights,
            "--tokens",
            PROMPT,
            "--steps",
            "1",
            "--device",
            "cuda",
        ]
        first_byte_ms(bare), first_byte_ms(argv)
        pairs = [(first_byte_ms(bare)[0], first_byte_ms(argv)[0]) for _ in range(10)]
        least, ours = (statistics.median(x) for x in zip(*pairs))
        row(
            f"SmolLM2 ({what}): exec to first token, median of 10",
            "bare cuInit + context + 150 ms",
            f"{ours:.0f} ms, bare {least:.0f} ms: + {ours - least:.0f} ms",
            ours <= least + 150,
        )
        whole = statistics.median(first_byte_ms(argv + ["--build-all"])[1] for _ in range(3))
        times = json.loads(cccrt(*argv[1:], "--build-all", "--json"))
        row(
            f"SmolLM2 ({what}): until all sizes are built and the process has ended",
            "none",
            f"{whole:.0f} ms; {times['graphs']} graphs in {times['graphs_ms']:.0f} ms",
            None,
        )
        row(
            f"SmolLM2 ({what}): parts of the start, ms",
            "none",
            ", ".join(
                f"{k[:-3]} {times[k]:.0f}"
                for k in ("device_ms", "open_ms", "attach_ms", "session_ms", "first_token_ms")
            ),
            None,
        )


# ---- attach
def prepared():
    """Where the prepared 8B file lies; made when it is not there. In memory (tmpfs) if there is room: files there are in the page cache."""
    for folder in ("/dev/shm", "/tmp"):
        if os.path.exists(os.path.join(folder, "ccc-8b.ccw")):
            return os.path.join(folder, "ccc-8b.ccw")
    folders = [f for f in ("/dev/shm", "/tmp") if shutil.disk_usage(f).free > ROOM]
    if not folders:
        raise RuntimeError("neither /dev/shm nor /tmp has 18 GB of room for the prepared file")
    path, begin = os.path.join(folders[0], "ccc-8b.ccw"), time.perf_counter()
    cccrt("prepare", artifact("llama-3-8b"), "--weights", "random:1", "-o", path, "--device", "cuda", timeout=200)
    print(f"prepared {path} in {time.perf_counter() - begin:.1f} s", flush=True)
    return path


def host_used():
    """Bytes of the machine's memory that are neither free nor page cache. Page-locked memory counts here and in no process's own figures."""
    m = dict((line.split(":")[0], int(line.split()[1]) * 1024) for line in open("/proc/meminfo"))
    return m["MemTotal"] - m["MemFree"] - m["Buffers"] - m["Cached"] - m["SReclaimable"]


class Peak:
    """The most memory, of host and device, that is taken between enter and exit; looked at every 4 ms."""

    def __init__(self, driver):
        self.driver, self.stop, self.host, self.device = driver, threading.Event(), 0, 0

    def look(self):
        self.driver.use()
        while not self.stop.wait(0.004):
            self.host, self.device = max(self.host, host_used()), max(self.device, self.driver.used())

    def __enter__(self):
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def attach():
    import ccc
    from driver import Driver

    path = prepared()
    with open(path, "rb") as f:  # into the page cache
        while f.read(1 << 24):
            pass
    driver = Driver()
    device, a = ccc.Device("cuda"), ccc.Artifact(artifact("llama-3-8b"))
    size, seconds, host, there = info("llama-3-8b")["targets"][0]["memory"]["weights_bytes"], [], [], []
    for _ in range(3):
        host_before, before = host_used(), driver.used()
        with Peak(driver) as peak:
            begin = time.perf_counter()
            w = ccc.Weights(a, device, path=path)
            seconds.append(time.perf_counter() - begin)
        host.append(peak.host - host_before)
        there.append(max(peak.device, driver.used()) - before - size)
        w.close()
    rate = driver.copy_rate()  # afterwards: the driver may keep what it locked, and that would hide what attaching takes
    ours = size / statistics.median(seconds) / GB
    where = os.path.dirname(path)
    row(
        "8B attached from a prepared file in the page cache",
        "0.5 x the page-locked copy rate (goal 0.85)",
        f"{ours:.1f} GB/s of {rate:.1f} = {ours / rate:.2f} x ({', '.join(f'{s:.2f}' for s in seconds)} s, {where})",
        ours >= 0.5 * rate,
    )
    row("8B attach: extra host memory", "512 MB", f"{max(host) / MB:.0f} MB", max(host) <= 512 * MB)
    row("8B attach: extra device memory", "256 MB", f"{max(there) / MB:.0f} MB", max(there) <= 256 * MB)


# ---- graphs, memory
def graphs():
    r = json.loads(
        cccrt(
            "run",
            artifact("llama-3-8b"),
            "--weights",
            prepared(),
            "--tokens",
            PROMPT,
            "--steps",
            "4",
            "--device",
            "cuda",
            "--build-all",
            "--json",
        )
    )
    row(
        f"8B: {r['graphs']} graphs ({r['graph_nodes']} nodes) built and instantiated",
        "120 ms (goal 60)",
        f"{r['graphs_ms']:.1f} ms",
        r["graphs_ms"] <= 120 and r["graphs"] == 51,
    )
    row(
        "8B: device memory of all graphs",
        "64 MB",
        f"{r['graphs_device_bytes'] / MB:.1f} MB",
        r["graphs_device_bytes"] <= 64 * MB,
    )
    row(
        "8B: parts of the start, ms",
        "none",
        ", ".join(
            f"{k[:-3]} {r[k]:.0f}" for k in ("device_ms", "open_ms", "attach_ms", "session_ms", "first_token_ms")
        ),
        None,
    )


def memory_of(name, weights):
    """Predicted and measured, with kernels loaded (a prefill has run) and no graph; then what the graphs take."""
    import numpy as np
    import ccc
    from driver import Driver

    driver, blocks, n = Driver(), 1024, 32
    device, a = ccc.Device("cuda"), ccc.Artifact(artifact(name))
    predicted = sum(a.memory("sm_90a", blocks)[k] for k in ("weights", "arena", "io", "counters", "kv"))
    before = driver.used()
    w = ccc.Weights(a, device, **weights)
    kv = ccc.KVCache(a, device, blocks)
    s = ccc.Session(a, w, kv)
    width = -(-a.model.max_model_len // a.model.kv_block_size)
    s.step(
        n,
        1,
        1,
        token_ids=np.arange(n),
        positions=np.arange(n),
        query_start_loc=[0, n],
        seq_lens=[n],
        block_table=np.zeros((1, width)) + np.arange(width) % blocks,
        slot_mapping=np.arange(n),
        logits_indices=[n - 1],
    )
    s.check()
    measured = driver.used() - before
    s.build_graphs()
    device.synchronize()
    graphs_B = driver.used() - before - measured
    row(
        f"{name}: device memory, predicted and measured",
        "differ by 32 MB",
        f"{predicted / MB:.1f} and {measured / MB:.1f} MB: {(measured - predicted) / MB:+.1f} MB, graphs {graphs_B / MB:+.1f} MB",
        abs(measured - predicted) <= 32 * MB,
    )
    s.close(), kv.close(), w.close()


def memory():
    memory_of("smollm2-135m", {"seed": 1})
    memory_of("llama-3-8b", {"path": prepared()})


# ---- speed
FLOORS = {"llama-3-8b": {("decode", 1): 7.0, ("decode", 64): 11.0, ("prefill", 2048): 75.0}}  # the mechanisms work
BOUNDS = {  # decoding at the speed of memory: at most, goal
    "llama-3-8b": {("decode", 1): (5.35, 5.0), ("decode", 8): (5.75, 5.4), ("decode", 64): (8.6, 8.1)},
    "llama-3-8b-fp8": {("decode", 1): (3.05, 2.8), ("decode", 8): (3.4, 3.15), ("decode", 64): (6.1, 5.7)},
    "llama-3.2-1b": {("decode", 1): (0.97, 0.90)},
    "smollm2-135m": {("decode", 1): (0.33, 0.25)},
}


BATCHES, PROMPTS = "1,8,64", "512,2048"
BESIDE = {  # peer of run: model, batches, prompts
    "8b": ("llama-3-8b", BATCHES, ""),
    "8b-fp8": ("llama-3-8b-fp8", BATCHES, ""),
    "8b-256": ("llama-3-8b", "256", ""),
    "8b-fp8-256": ("llama-3-8b-fp8", "256", ""),
    "1b": ("llama-3.2-1b", "1", ""),
    "smollm2": ("smollm2-135m", "1", ""),
    "prefill": ("llama-3-8b", "1", PROMPTS),
}


def bench(name, weights, batches, prompts, *more):
    options = ["--batch", batches, *(["--prefill", prompts] if prompts else []), "--context", "1024", *more]
    text = cccrt("bench", artifact(name), "--weights", weights, "--device", "cuda", *options, "--json", timeout=180)
    r = json.loads(text)
    print(f"{name}: read ceiling {r['read_ceiling_gb_per_s']:.0f} GB/s", flush=True)
    return r


def bench_rows(name, r):
    for x in r["rows"]:
        decode = x["kind"] == "decode"
        n, ms = (x["batch"], x["step_ms"]) if decode else (x["tokens"], x["ms"])
        floor, bound = (of.get(name, {}).get((x["kind"], n)) for of in (FLOORS, BOUNDS))
        what = f"{name}: decode, batch {n}, context 1024" if decode else f"{name}: prefill of {n}"
        value = (
            f"{ms:.3f} ms, {100 * x['share']:.0f} % of the read ceiling, enqueued in {x['host_us']:.1f} us"
            if decode
            else f"{ms:.2f} ms, {1e3 * n / ms:.0f} tokens/s"
        )
        if floor:
            promised(r["device"], f"{what}: floor", f"{floor} ms", value, ms <= floor)
        if bound:
            promised(r["device"], f"{what}: speed of memory", f"{bound[0]} ms, goal {bound[1]}", value, ms <= bound[0])
        if not floor and not bound:
            row(what, "none", value, None)
        if decode and n == 1:
            row(f"{name}: host time to enqueue a captured step", "8 us, goal 4", f"{x['host_us']:.1f} us", x["host_us"] <= 8)
        if decode and x["share"] > 1:
            row(what + ", share of the ceiling", "100 %", "a measuring error", False)


def write(name, content):
    with open(os.path.join(OUT, name), "w") as f:
        json.dump(content, f)


def speed():
    results = {}
    for name, prompts in (
        ("llama-3-8b", PROMPTS),
        ("llama-3-8b-fp8", PROMPTS),
        ("smollm2-135m", "512"),
        ("llama-3.2-1b", PROMPTS),
    ):
        try:
            weights = prepared() if name == "llama-3-8b" else "random:1"
            results[name] = bench(name, weights, BATCHES, prompts, "--kernels")
            bench_rows(name, results[name])
        except Exception as e:
            row(f"{name}: bench", "runs", str(e)[:200], False)
        write("bench.json", results)


# ---- attention alone
ATTENTION = {  # heads are 32 / 8 of 128, the cache bf16, where the name does not say else: at most (us) or at least (GB/s), goal
    "decode_16_32_8_128 1 x 1024": ("us", 5.0, 4.2),
    "decode_16_32_8_128 1 x 131072": ("GB/s", 2950, 3050),
    "decode_16_32_8_128 64 x 1024": ("GB/s", 2850, 2950),
    "decode_16_32_8_128 64 x 4096": ("GB/s", 3000, 3060),
    "decode_16_32_8_128 64 of 1..8192": ("GB/s", 2950, 3040),
    "fp8_decode_16_32_8_128 64 x 4096": ("GB/s", 2900, 3000),
    "decode_16_32_2_128 1 x 131072": ("GB/s", 2700, None),
}


def parse_attention(lines):
    """attn_check's lines to {"device", "rows": {name: {"us", "rate", "unit", "share", "plain_us"}}}, all with programmatic edges. The form is the
    planned one; plain_us: of the plain one, whose blocks merge all themselves, if it is another. share: of the read ceiling in percent, of decoding."""
    found, plain = {"device": "", "rows": {}}, {}
    for line in lines:
        if m := re.match(r"(.+), compute capability", line):
            found["device"] = m[1]
        m = re.match(r"(\S+) (.*?)(, planned)? +full edges.*programmatic edges +([\d.]+) us +(\d+) (\S+)(?: \( *(\d+) %\))?", line)
        if not m:
            continue
        name = re.sub(r"(_c\dw\d)?(_joined)?$", "", m[1]) + " " + m[2]
        if m[3]:
            figures = {"us": float(m[4]), "rate": int(m[5]), "unit": m[6], "share": m[7] and int(m[7])}
            found["rows"][name] = {**figures, "plain_us": plain.get(name)}
        else:
            plain[name] = float(m[4])
    return found


def attention():
    folder = os.path.join(ROOT, "attn")
    r = subprocess.run([os.path.join(folder, "attn_check"), folder, "promises"], capture_output=True, text=True, timeout=60)
    print(r.stdout, end="", flush=True)
    found = parse_attention(r.stdout.splitlines())
    write("attention.json", found)
    for name, (unit, bound, goal) in ATTENTION.items():
        x = found["rows"].get(name)
        if not x:
            row(f"attention alone, {name}", "measured", "not in what attn_check printed", False)
            continue
        ours = x["us"] if unit == "us" else x["rate"]
        value = f"{x['us']:.2f} us, {x['rate']} GB/s, {x['share']} % of the read ceiling"
        value += f"; in plain blocks {x['plain_us']:.2f} us" if x["plain_us"] else ""
        ok, text = ours <= bound if unit == "us" else ours >= bound, f"{bound} {unit}" + (f", goal {goal}" if goal else "")
        promised(found["device"], f"attention alone, {name}", text, value, ok)
    if r.returncode:
        said = [line for line in r.stdout.splitlines() if line.startswith("FAIL")] or r.stderr.splitlines() or ["no output"]
        raise RuntimeError(f"attn_check: exit status {r.returncode}: {said[-1]}")


# ---- for run, beside its peers
def beside(peers):
    """Without rows of steps, but for one that does not run: run shows their figures."""
    path, results = os.path.join(OUT, "bench.json"), {}
    if os.path.exists(path):
        with open(path) as f:
            results = json.load(f)
    for name, batches, prompts in (BESIDE[p] for p in peers if p in BESIDE):
        there = {(x["kind"], x.get("batch") or x["tokens"]) for x in results.get(name, {}).get("rows", [])}
        wanted = {("decode", int(n)) for n in batches.split(",")} | {("prefill", int(n)) for n in prompts.split(",") if n}
        if wanted <= there:
            continue
        try:
            r = bench(name, "random:1", batches, prompts)
            results.setdefault(name, {**r, "rows": []})["rows"] += r["rows"]
        except Exception as e:
            row(f"{name}: bench", "runs", str(e)[:200], False)
        write("bench.json", results)
    if "attention" in peers and not os.path.exists(os.path.join(OUT, "attention.json")):
        attention()


def main():
    sections = {f.__name__: f for f in (start, attach, graphs, memory, speed, attention)}
    wanted = sys.argv[3:]
    if wanted[:1] == ["beside"]:
        sections, wanted = {"beside": lambda: beside(sys.argv[4:])}, []
    for name in wanted or sections:
        begin = time.perf_counter()
        try:
            sections[name]()
        except Exception as e:  # a section that fails is a row, the others still run
            row(f"figures: {name}", "runs", f"{type(e).__name__}: {e}"[:240], False)
        print(f"{name}: {time.perf_counter() - begin:.1f} s", flush=True)


main()
