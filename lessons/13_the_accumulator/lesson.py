# %% [markdown] The adder inside the tensor core
# A tensor core multiplies FP8 numbers and says that it adds in FP32. It does not. DeepSeek-V3's report found
# that only "around 14 bits" of each sum survive (section 3.3.2), and built its FP8 training around that.
#
# This lesson rebuilds the adder bit by bit, for one sum of 32 products, until your bits equal the package's
# tensor core. Then it lets the error grow, and stops it the way V3 does. Guess where a question stands.

# %% What the hardware file says  fast=true
import math

import numpy as np

from minidsv3 import load_hardware
from minidsv3.numerics import E4M3, FP22, mma, mma_trace
from minidsv3.numerics.experiments import accumulation_errors, with_fraction_bits

h800 = load_hardware("h800")
fp8 = h800.tensor_core["fp8"]
print(f"FP8 on an {h800.name}: {fp8.terms} products at once, {fp8.fraction_bits} fraction bits kept of each,")
print(f"sum cut to {fp8.output_fraction_bits} fraction bits, {fp8.rounding}; status {fp8.status!r}")
print(f"evidence: {fp8.silicon}")

# %% [markdown] The products are exact
# An E4M3 number has 3 fraction bits: 1.000 to 1.111 in binary, times a power of two. The product of two of
# them has at most 8 significant bits, so nothing is lost there. All that follows happens in the sum.
#
# One detail will matter: 1.875 x 1.75 is 11.01 in binary, and it stays so. Its exponent is the sum of the
# factors' exponents, 0, although the product is larger than 2.

# %% Two factors, one product


def parts(x):
    """An E4M3 number as (integer, exponent): x = integer / 8 x 2^exponent; subnormals stay at -6."""
    exponent = max(math.frexp(x)[1] - 1, -6)
    return int(math.ldexp(x, 3 - exponent)), exponent


for a, b in ((1.875, 1.75), (0.171875, -3.5), (448.0, 0.001953125)):
    (m, e), (n, f) = parts(a), parts(b)
    sign = "-" if m * n < 0 else "+"
    bits = f"{abs(m * n) >> 6:02b}.{abs(m * n) & 63:06b}"
    print(f"{a:9.10g} x {b:<11.10g} = {sign}{bits} x 2^{e + f:<3} = {a * b:.10g}")

# %% [markdown] One large, one small
# Put 256 beside a small product and ask the tensor core for the sum. FP32 could tell 256 from 256.0001.
# The smallest neighbour that this adder can still see is 2^-5 = 0.03125. What becomes of half of that,
# twice? And of one and a half times that?

# %% Which neighbours of 256 are seen?  fast=true


def core(products, unit=fp8, c=None):
    """The tensor core's sum of numbers that E4M3 has: each times 1, the rest zeros."""
    a, b = np.zeros((1, unit.depth), np.uint8), np.full((unit.depth, 1), E4M3.encode(1.0))
    a[0, : len(products)] = E4M3.encode(products)
    return mma(a, b, None if c is None else np.full((1, 1), c, np.float32), unit).item()


for small in ([0.03125], [0.015625], [0.015625, 0.015625], [0.046875], [-0.015625]):
    print(f"256 {' '.join(f'{x:+}' for x in small):20} = {core([256.0, *small])}, exactly {256 + sum(small)}")

# %% [markdown] The rule
# 1. Every product keeps its exact bits and the sum of its factors' exponents, as above.
# 2. The largest exponent of all products, and of the accumulator C, sets the scale.
# 3. Every term is shifted to it, and what falls below 2^(largest - 13) is cut off, toward zero.
# 4. What is left is added exactly: whole numbers, no order, no rounding.
# 5. The sum is cut once more, to 13 fraction bits of its own, and lies in a register of 32 bits.
#
# So a term below 2^(largest - 13) vanishes, and two of them vanish twice. Now 32 products of factors large
# and small. How many of them will lose something?

# %% Thirty-two products, aligned by hand  show="StepPicture:microscope" fast=true
rng = np.random.default_rng(13)
signs, sizes = rng.integers(0, 2, (2, 32)) << 7, rng.integers(16, 112, (2, 32))
a_codes, b_codes = (signs | sizes).astype(np.uint8)  # [32] each: codes of E4M3
a, b = E4M3.decode(a_codes).tolist(), E4M3.decode(b_codes).tolist()

products = []
for x, y in zip(a, b, strict=True):
    (m, e), (n, f) = parts(x), parts(y)
    products.append((m * n, e + f))  # value = m n / 64 x 2^(e + f)
largest = max(exponent for product, exponent in products if product)
last = largest - fp8.fraction_bits  # exponent of the last bit kept

kept = []
for product, exponent in products:
    shift = (exponent - 6) - last  # to units of 2^last
    magnitude = abs(product) << shift if shift >= 0 else abs(product) >> -shift
    kept.append(magnitude if product > 0 else -magnitude)
values = [x * y for x, y in zip(a, b, strict=True)]
cut = [i for i in range(32) if values[i] != kept[i] * 2.0**last]
gone = [i for i in cut if not kept[i]]
print(f"scale 2^{largest}, last bit 2^{last}; {len(cut)} of 32 lose bits, {len(gone)} of these all:")
for i in cut[:4] + gone[:2]:
    print(f"  {a[i]:10g} x {b[i]:10g} = {values[i]:13.8f}  kept {kept[i] * 2.0**last:g}")
microscope = mma_trace(a_codes, b_codes, 0.0, fp8)[0]  # the package's own look at the same step

# %% Add, cut once more, compare  fast=true
total = sum(kept)  # whole numbers: exact, in any order
places = max(abs(total).bit_length() - 1 - fp8.output_fraction_bits, 0)
register = math.copysign(abs(total) >> places << places, total) * 2.0**last
machine_says = mma(a_codes[None], b_codes[:, None], None, fp8).item()
exact = math.fsum(values)
bits = f"{np.float32(register).view(np.uint32):032b}"
print(f"by hand {register!r}, tensor core {machine_says!r}, exact {exact!r}")
print(f"equal to the bit: {register == machine_says}")
print(f"in the register {bits[0]} {bits[1:9]} {bits[9:22]} {bits[22:]}: FP22, ten zeros behind it")
print(f"FP22 has this number: {FP22.round(np.float32(register)).item() == register}")

# %% [markdown] Cut toward zero, or down?
# The report describes the shift as a *right shift*. Python's `>>` on a negative number rounds down, away
# from zero: -1 >> 1 is -1, not 0. On published results of an H100 the rule "toward zero" gives all 5,000,
# "down" only 3,970. The difference shows in one sum. Which sign gives it away?

# %% The sign that tells
for small in (0.015625, -0.015625):
    units = small / 2.0**-5  # of the last bit kept beside 256
    down, toward_zero = 256 + math.floor(units) * 2.0**-5, 256 + math.trunc(units) * 2.0**-5
    print(f"256 {small:+}: down {down}, toward zero {toward_zero}, tensor core {core([256.0, small])}")

# %% [markdown] What is certain here, and what is not
# Certain: these bits, on H100 and H200, for sums that start at C = 0: all published results are reproduced.
# Not published: a run on an H800 itself (it is taken to be as the H100), FP8 with C other than 0, and which
# exponent a product with a zero factor brings along. The package says which reading it takes, and the status
# stands in the hardware file.
#
# C other than 0 is what happens next: a long sum is many instructions, 32 products each, one register. Each
# cuts again. For positive products every cut goes down. How far off is a sum of 4,096, in percent?

# %% The error grows with K  fast=true
lengths = [32, 128, 512, 2048, 4096]
kinds = ["uniform [0, 1)", "normal"]
errors = accumulation_errors(fp8, lengths, kinds, [None, 128], side=16)
found = {(e.operands, e.interval, e.k): e for e in errors}
for k in lengths:
    alone = found["uniform [0, 1)", None, k]
    print(f"K = {k:4}: off by {alone.median:6.3%}, the median of 256 sums; too small: {alone.low:4.0%}")

# %% [markdown] Promotion
# V3 copies the register to an FP32 sum on the ordinary cores after every 128 products, that is after 4
# instructions of 32, and starts the register at zero again (section 3.3.2). What does that make of the 7 %?

# %% To FP32 every 128  fast=true
for k in lengths:
    alone, promoted = found["uniform [0, 1)", None, k], found["uniform [0, 1)", 128, k]
    print(f"K = {k:4}: alone {alone.median:7.3%}   promoted every 128 {promoted.median:7.3%}")
print("the error of 128 products, whatever K is: the sums of 128 are added in FP32")

# %% [markdown] And with signs?
# Products of both signs cancel, so the *relative* error has no bound: a sum near zero can be off by any
# percentage. Over the sum of the products' magnitudes it is tame. The report's "nearly 2 %" at K = 4096 is
# a maximum relative error of "random matrices". How they are drawn, and how many sums the maximum is of, it
# does not say, so nothing here is tuned to meet it.

# %% Normal operands: which error do you mean?
for interval in (None, 128):
    e = found["normal", interval, 4096]
    print(
        f"{'alone' if interval is None else 'promoted':9} median {e.median:.3%}, worst {e.worst:.1%}, "
        f"worst over sum of magnitudes {e.normwise:.4%}"
    )

# %% [markdown] Another machine, another adder
# The adder is data. BF16 on the same chip keeps 25 bits of 16 products; a B200 keeps 25 of FP8 as well. And
# a what-if is one changed number. How many fraction bits would have made promotion needless?

# %% Swap the hardware
units = {
    "h800 fp8": fp8,
    "h800 fp8, 14 bits (a what-if)": with_fraction_bits(fp8, 14),
    "h800 fp8, 18 bits (a what-if)": with_fraction_bits(fp8, 18),
    "h800 bf16": h800.tensor_core["bf16"],
    "b200 fp8": load_hardware("b200").tensor_core["fp8"],
}
for name, unit in units.items():
    (e,) = accumulation_errors(unit, [4096], kinds[:1], [None], side=8)
    print(f"{name:30} {unit.fraction_bits} bits, {unit.terms:2} terms: off by {e.median:.5%} at K = 4096")

# %% [markdown] The number to take home
# Thirteen fraction bits, and the leading one that is not stored. The report counts both.

# %% Thirteen and one  fast=true
from minidsv3.cost.published import figures, recompute

bits = recompute(figures()["paper.bits"])
print(f"{fp8.fraction_bits} fraction bits + 1 = {bits.computed:g}: {bits.figure.source}")
print(f"prints {bits.figure.printed!r}: {bits.verdict}")

# %% [markdown] Your turn
# Write the step and the promoted sum, bit for bit: `minidsv3 check 13`. In the package it is
# `minidsv3.numerics.fused_step`; see any sum cut by cut with `minidsv3 show accumulator --microscope`.
