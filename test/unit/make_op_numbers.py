#!/usr/bin/env python3
"""Writes op_numbers.h: for each op a graph in text form, inputs, and the numbers that must come out, computed here with numpy in
f64 from the op's definition and from nothing of ccc. Run it when an op is added:  ./make_op_numbers.py > op_numbers.h"""
import numpy as np

cases = []


def case(op, graph, want, tol=1e-6, **inputs):
    """inputs: name=array (f32 values; stored in the dtype that the graph says); kv={layer: array} as kv0=..."""
    cases.append((op, graph, {k: np.asarray(v, np.float32) for k, v in inputs.items()}, np.asarray(want, np.float64), tol))


def f32(a):
    return np.asarray(a, np.float32).astype(np.float64)


# ---- elementwise
x = f32([-2.5, -0.3, 0.0, 0.7, 3.1])
y = f32([1.5, -0.3, -4.0, 0.25, 2.0])
unary = {
    "neg": -x, "exp": np.exp(x), "sigmoid": 1 / (1 + np.exp(-x)), "silu": x / (1 + np.exp(-x)), "tanh": np.tanh(x),
    "gelu_tanh": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), "relu": np.maximum(x, 0),
}
for op, want in unary.items():
    case(op, 'sym T 1..9 %%x = input "x" : f32[T] %%y = %s %%x return y = %%y' % op, want, x=x)
positive = f32([0.25, 1.0, 2.0, 3.1, 100.0])
case("rsqrt", 'sym T 1..9 %x = input "x" : f32[T] %y = rsqrt %x return y = %y', 1 / np.sqrt(positive), x=positive)
binary = {"add": x + y, "sub": x - y, "mul": x * y, "div": x / y, "maximum": np.maximum(x, y), "minimum": np.minimum(x, y)}
for op, want in binary.items():
    case(op, 'sym T 1..9 %%x = input "x" : f32[T] %%y = input "y" : f32[T] %%z = %s %%x, %%y return z = %%z' % op, want, x=x, y=y)
row, col = f32([1, 2, 3]), f32([[10], [20]])
case("add", '%x = input "x" : f32[3] %y = input "y" : f32[2,1] %z = add %x, %y return z = %z', row + col, x=row, y=col)
case("mul", '%x = input "x" : bf16[2,3] %c = constant {value = 0.5} %z = mul %x, %c return z = %z', 0.5 * f32([[1, 2, 3], [4, 5, 6]]),
     x=[[1, 2, 3], [4, 5, 6]])

# ---- data movement
table = f32(np.arange(12).reshape(4, 3))
case("constant", '%c = constant {value = 0.1} return c = %c', f32([0.1]), tol=0)
case("input", '%x = input "x" : f32[3] return x = %x', [1, 2, 3], tol=0, x=[1, 2, 3])
case("weight", '%w = weight "w" : bf16[3] return w = %w', [1, -2, 0.5], tol=0, w=[1, -2, 0.5])
case("concat", '%a = weight "a" : f32[1,3] %b = weight "b" : f32[2,3] %c = concat %b, %a, %b return c = %c',
     np.concatenate([table[1:3], table[:1], table[1:3]]), tol=0, a=table[:1], b=table[1:3])
rows = np.arange(8.0)  # two heads of four rows: llama.cpp's order pairs (0,1), (2,3) where Hugging Face has (0,2), (1,3)
want = rows.reshape(2, 2, 2).transpose(0, 2, 1).reshape(8)
case("unpermute", '%w = weight "w" : bf16[8,1] %u = unpermute %w {head_size = 4} return u = %u', want, tol=0, w=rows)
case("cast", '%x = input "x" : f32[5] %y = cast %x {to = bf16} return y = %y', [1, 1.0078125, -2.5, 256, 258], tol=0,
     x=[1.001, 1.0065, -2.5, 257, 258.9])
case("slice", '%x = input "x" : f32[4,3] %y = slice %x {start = 1, size = 2} return y = %y', table[:, 1:3], tol=0, x=table)
case("gather", '%t = input "t" : bf16[4,3] %i = input "i" : i32[3] %y = gather %t, %i return y = %y', table[[3, 0, 3]], tol=0, t=table, i=[3, 0, 3])
embed = '%t = weight "t" : bf16[4,3] %i = input "i" : i32[2] %e = input "e" : bf16[2,3] %y = embed %t, %i, %e return y = %y'
case("embed", embed, table[[2, 1]], tol=0, t=table, i=[2, 1])
case("embed", embed, [[7, 8, 9], [1, 2, 3]], tol=0, t=table, e=[[7, 8, 9], [1, 2, 3]])

# ---- matmul, norm, argmax
rng = np.random.default_rng(1)
a, w = f32(rng.standard_normal((3, 10))), f32(rng.standard_normal((11, 10)))
case("matmul", '%x = input "x" : f32[3,10] %w = weight "w" : f32[11,10] %y = matmul %x, %w return y = %y', a @ w.T, x=a, w=w)
n = f32(rng.standard_normal((2, 11)))
norm = n / np.sqrt((n * n).mean(axis=1, keepdims=True) + 0.5)
case("rms_norm", '%x = input "x" : f32[2,11] %y = rms_norm %x {eps = 0.5} %z = slice %y {start = 8, size = 3} return z = %z', norm[:, 8:], x=n)
nan = float("nan")
case("argmax", '%x = input "x" : f32[4,4] %y = argmax %x return y = %y', [2, 1, 3, 0], tol=0,
     x=[[1, 2, 5, 5], [nan, 7, 1, 2], [nan, nan, nan, -9], [nan, nan, nan, nan]])


# ---- rope
def inv_freq(rotary, theta, scaling=None, factor=1.0, low=1.0, high=4.0, original=8192):
    f = 1 / theta ** (np.arange(0, rotary, 2) / rotary)
    if scaling == "linear":
        return f / factor
    if scaling == "llama3":
        wave = 2 * np.pi / f
        slow = np.where(wave > original / low, f / factor, f)
        smooth = (original / wave - low) / (high - low)
        middle = (1 - smooth) * slow / factor + smooth * slow
        return np.where((wave < original / high) | (wave > original / low), slow, middle)
    return f


def rope_rows(positions, f):
    angle = (np.asarray(positions, np.float32)[:, None] * f.astype(np.float32)[None, :]).astype(np.float64)
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


for attrs, f in [("theta = 10000", inv_freq(8, 1e4)), ('theta = 500000, scaling = "linear", factor = 4', inv_freq(8, 5e5, "linear", 4.0)),
                 ('theta = 500000, scaling = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4, original_max_position = 64',
                  inv_freq(8, 5e5, "llama3", 8.0, original=64))]:
    text = '%%t = rope_table {rotary = 8, rows = 131072, %s} %%i = input "i" : i32[3] %%y = gather %%t, %%i return y = %%y' % attrs
    case("rope_table", text, rope_rows([1, 77, 131071], f), tol=1e-7, i=[1, 77, 131071])
q = f32(rng.standard_normal((2, 2, 6)))  # tokens, heads, head size 6 of which 4 rotate
cs = rope_rows([3, 5], inv_freq(4, 1e4))
c, s = cs[:, None, :2], cs[:, None, 2:]
turned = np.concatenate([q[..., :2] * c - q[..., 2:4] * s, q[..., 2:4] * c + q[..., :2] * s, q[..., 4:]], axis=2)
case("rope", '%x = input "x" : f32[2,12] %t = rope_table {rotary = 4, rows = 8, theta = 10000} %p = input "p" : i64[2] '
     '%y = rope %x, %t, %p {head_size = 6} return y = %y', turned, x=q, p=[3, 5])

# ---- cache and attention: 2 kv heads, 4 query heads, blocks of 2 rows, head size 3; sequence 0 has 3 rows and 2 new tokens,
# sequence 1 has 1 row and 1 new token; the new rows are written by the graph, one padded token (slot -1) writes nothing
heads, kv_heads, size, block = 4, 2, 3, 2
cache = f32(rng.standard_normal((4, 2, kv_heads, block, size)))
k, v = (f32(np.round(rng.standard_normal((4, kv_heads, size)) * 16) / 16) for _ in range(2))
q = f32(rng.standard_normal((4, heads, size)))
slots, tables, lens, starts = [7, 2, 0, -1], [[3, 1], [0, 0]], [3, 1], [0, 2, 3]


def attended(cache, k, v, scale, k_scale=1, v_scale=1):
    """The step's rows written to the cache, then attention over it, whose rows stand for k_scale * K and v_scale * V."""
    after, out = cache.copy(), np.zeros((4, heads, size))
    for t, slot in enumerate(slots):
        if slot >= 0:
            after[slot // block, 0, :, slot % block], after[slot // block, 1, :, slot % block] = k[t], v[t]
    for i in range(2):
        fresh = starts[i + 1] - starts[i]
        for j in range(fresh):
            sees = lens[i] - fresh + j + 1
            for h in range(heads):
                past = np.array([after[tables[i][r // block], :, h * kv_heads // heads, r % block] for r in range(sees)])
                score = (k_scale * past[:, 0]) @ q[starts[i] + j, h] * scale
                p = np.exp(score - score.max())
                out[starts[i] + j, h] = (p / p.sum()) @ (v_scale * past[:, 1])
    return out


out = attended(cache, k, v, 0.5)
text = ('%c = cache {layer = 0} : bf16.nhd[2,2,3] %k = input "k" : bf16[4,6] %v = input "v" : bf16[4,6] %s = input "s" : i64[4] '
        '%c2 = kv_write %c, %k, %v, %s %q = input "q" : f32[4,12] %b = input "b" : i32[2,2] %l = input "l" : i32[2] '
        '%u = input "u" : i32[3] %y = attention %q, %c2, %b, %l, %u {scale = 0.5} return y = %y')
# token 1 of sequence 0 is row 2, in block 1, slot 2; token 0 is row 1, in block 3, slot 7
for op in ("attention", "kv_write", "cache"):
    case(op, text.replace("%c", "%c_of_" + op), out, k=k, v=v, s=slots, q=q, b=tables, l=lens, u=starts, **{"kv.0": cache})
# a cache of e4m3 holds K / k_scale and V / v_scale; all of these are e4m3 numbers, whose product with a scale of 0.5 or 4 is exact
past = np.round(cache * 4) / 4
k8, v8 = np.round(k * 4) / 4, np.round(v * 4) / 4
k8, v8, past = (np.clip(a, -1.75, 1.75) for a in (k8, v8, past))
out = attended(past, k8, v8, 0.25, 0.5, 4)
text = ('%c = cache {layer = 0} : e4m3.ccc[2,2,3] %k = input "k" : f32[4,6] %v = input "v" : f32[4,6] %s = input "s" : i64[4] '
        '%half = constant {value = 0.5} %k2 = mul %k, %half %v2 = mul %v, %half %kq = cast %k2 {to = e4m3} %vq = cast %v2 {to = e4m3} '
        '%c2 = kv_write %c, %kq, %vq, %s %q = input "q" : f32[4,12] %b = input "b" : i32[2,2] %l = input "l" : i32[2] '
        '%u = input "u" : i32[3] %y = attention %q, %c2, %b, %l, %u {scale = 0.25, k_scale = 0.5, v_scale = 4} return y = %y')
case("attention", text, out, k=2 * k8, v=2 * v8, s=slots, q=q, b=tables, l=lens, u=starts, **{"kv.0": past})


# ---- the header
def array(a):
    return "(const float[]){%s}" % ", ".join("NAN" if np.isnan(v) else repr(float(np.float32(v))) for v in np.ravel(a))


print("/* Written by make_op_numbers.py: change that. */")
print("static const op_case op_cases[] = {")
for op, graph, inputs, want, tol in cases:
    print('    {"%s", "%s",' % (op, graph.replace('"', '\\"')))
    print("     {%s}," % ", ".join('{"%s", %s, %d}' % (k, array(v), v.size) for k, v in inputs.items()))
    print("     (const double[]){%s}, %d, %g}," % (", ".join(repr(float(v)) for v in np.ravel(want)), want.size, tol))
print("};")
