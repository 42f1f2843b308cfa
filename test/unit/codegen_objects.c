/* Objects that a flat image can and cannot be made of; compiled once for each case by codegen.cmake, read by codegen_image_test.c. */
#if CASE == 0 /* code, constants in two sections, a local call, a jump table: all fine */
static const int table[4] = {3, 1, 4, 1};
__attribute__((noinline)) static int look(int i) { return table[i & 3]; }
__attribute__((visibility("hidden"))) int helper(int i) { return look(i) * 2; }
int entry(int i)
{
    switch (i) {
    case 0: return helper(1) + 10;
    case 1: return look(2) + 20;
    case 2: return helper(3) + 30;
    case 3: return look(0) + 40;
    case 4: return helper(5) + 50;
    case 5: return look(6) * i;
    }
    return (int)(1.5f * (float)i);
}
#elif CASE == 1 /* writable data */
static int counter = 5;
int entry(int i) { return counter += i; }
#elif CASE == 2 /* an import */
__attribute__((visibility("hidden"))) int elsewhere(int);
int entry(int i) { return elsewhere(i) + 1; }
#elif CASE == 3 /* thread-local data */
static __thread int mine;
int entry(int i) { return mine += i; }
#elif CASE == 4 /* constants that hold addresses */
static const int a = 1, b = 2;
const int *const table[2] = {&a, &b}; /* not static: clang would store distances instead */
int entry(int i) { return *table[i & 1]; }
#elif CASE == 5 /* an address in code */
int entry(int i)
{
    const void *p;
    __asm__("movabs $entry, %0" : "=r"(p));
    return i + (p != 0);
}
#elif CASE == 6 /* zeroed data */
static volatile int zeros[100];
int entry(int i) { return zeros[i]; }
#elif CASE == 7 /* no entry */
int other(int i) { return i; }
#elif CASE == 8 /* entry is data */
const int entry[2] = {1, 2};
#endif
