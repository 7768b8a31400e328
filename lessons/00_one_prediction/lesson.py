# %% [markdown] One prediction
# Text goes in, one token comes out, and there is a bill. This lesson follows one prediction through a
# small DeepSeek-V3: bytes, ids, vectors, attention over a latent, experts, logits, a token, and what all
# that moved. Where the prose ends in a question, guess before you run the cell: a wrong guess teaches most.
#
# The weights are random. So the *shapes*, the *arithmetic* and the *cost* are real, and the language is
# not: `minidsv3 run` trains the same model in about two minutes, `minidsv3 predict` asks it.
#
# The prompt below has 25 characters. How many tokens will the model see?

# %% Text to bytes to ids  fast=true
import numpy as np

from minidsv3 import Machine, Model, ModelConfig, Tokenizer, bill, load_hardware

SOURCE = "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n"
tokenizer = Tokenizer.train([SOURCE], vocab_size=290)  # pieces that occur often become one token

prompt = "def add(a, b):\n    return"
ids = tokenizer.encode(prompt)
print(f"{len(prompt)} characters -> {len(prompt.encode())} bytes -> {len(ids)} tokens")
for token in ids:
    print(f"  {token:4}  {tokenizer.token_bytes(token)!r}")

# %% [markdown] A model to ask
# `nano` has everything V3 has, only smaller: latent attention, a dense layer first, then experts with a
# shared one, group-limited routing, and a multi-token prediction module. Its fields are named as in
# DeepSeek's config.
#
# A token does not meet all parameters: of many experts it is sent to a few. Which share of its parameters
# does V3 use for one token: half, a tenth, a twentieth?

# %% A model to ask
config, v3 = ModelConfig.preset("nano"), ModelConfig.preset("v3")
model = Model.initialise(config, seed=0)
w = model.parameters.weights

for field in ("dim", "n_layers", "n_heads", "kv_lora_rank", "n_routed_experts", "n_activated_experts"):
    print(f"{field:20} nano {getattr(config, field):9,}   V3 {getattr(v3, field):15,}")
small, large = config.parameter_counts(), v3.parameter_counts()
for name, count in (("parameters", "total"), ("met by one token", "active")):
    print(f"{name:20} nano {small[count]:9,}   V3 {large[count]:15,}")
print(f"so one token of V3 meets {large['active'] / large['total']:.1%} of it")

# %% [markdown] The whole prediction at once
# A *machine* runs the model's primitives. This one also writes a row for each of them (a trace), and
# keeps the values of the ops that we name. Everything below only looks at what this one call left behind.

# %% The whole prediction at once  show="op_timeline:trace" fast=true
tokens = np.array([ids])  # [B, T]
machine = Machine(trace=True, keep=["embed.*", "attn.norm", "mla.*", "gate.*"])
logits = model.logits(tokens, machine)  # [B, T, V]
trace = machine.trace
print(f"tokens {tokens.shape} -> logits {logits.shape}, through {len(trace)} ops")

# %% [markdown] Ids to vectors
# An id is a row number of the embedding table. Nothing is multiplied: the row is read.

# %% Ids to vectors  show="vector_strip:h[token=0]"
h = trace.value("embed.tokens")  # [T, D]
print(f"h {h.shape}; first token, first four numbers: {h[0, :4].round(3)}")
print("the same row of the table:", bool(np.array_equal(h[0], w.embedding[ids[0]])))

# %% [markdown] Attention keeps a latent, not keys and values
# Equation 1 makes one small vector a token: `c_KV = W_DKV h`. Keys and values of *all* heads unfold from
# it (eqs. 2 and 5). Beside it goes `k_R`, one rotated key that all heads share (eq. 3).

# %% Equation 1, by hand  eq="1" show="heat_map:c_KV"
normed = trace.value("attn.norm", layer=0)  # [T, D]
W_DKV = w.layers[0].attention.W_DKV  # [d_c, D]
c_KV = normed @ W_DKV.T  # [T, d_c]
same = np.allclose(c_KV, trace.value("mla.kv_down", layer=0), atol=1e-6)
print(f"W_DKV {W_DKV.shape} times h {normed.shape} -> c_KV {c_KV.shape}; as in the trace: {same}")

# %% The shapes of one attention layer
for row in trace.select("mla.*", layer=0):
    inputs = ", ".join(str(list(shape)) for shape in row.shapes[:-1])
    print(f"{row.op:16} {inputs:32} -> {list(row.shapes[-1])}")

# %% [markdown] Softmax, and why it is your exercise
# Equation 10 turns scores into weights over the tokens so far. Written as it is printed, `exp(x) /
# sum(exp(x))`, it breaks, in float32, at scores that are not large at all, and for one single score. At
# which: a hundred, a thousand, a million?

# %% Softmax breaks at one number  eq="10" fast=true
with np.errstate(over="ignore", invalid="ignore"):
    for score in (88.0, 89.0):
        e = np.exp(np.array([score], np.float32))
        print(f"softmax([{score}]) = {e / e.sum()}, because exp({score}) = {e[0]:.3g}")

# %% [markdown] What the tokens look at
# Row t belongs to the token at position t, and sums to 1 over the tokens up to itself. The first token has
# nobody else to look at. What stands in its row?

# %% What the tokens look at  eq="10" show="attention_map:p"
p = trace.value("mla.softmax", layer=0)  # [H, T, S]
print(f"p {p.shape}; all rows sum to 1: {bool(np.allclose(p.sum(axis=-1), 1))}; head 0, first three tokens:")
print(p[0, :3, :3].round(3))

# %% [markdown] Experts are chosen, token by token
# The router scores each expert with a sigmoid (eq. 15), adds a bias that only the *choice* sees (eq. 16),
# keeps the best groups, takes the top K there, and renormalises their scores to weights (eq. 13).

# %% The router's choice for the last token  eq="13" show="router_card:s"
layer = config.n_dense_layers  # the first layer with experts
s = trace.value("gate.sigmoid", layer=layer)[-1]  # [E]
chosen = trace.value("gate.top_k", layer=layer)[-1]  # [K]
g = trace.value("gate.renormalise", layer=layer)[-1]  # [K]
size = config.n_routed_experts // config.n_expert_groups
for expert, weight in zip(chosen, g, strict=True):
    print(f"expert {expert:2} of group {expert // size}: score {s[expert]:.4f}, weight {weight:.4f}")
print(f"weights sum to the route scale: {g.sum():.4f} = {config.route_scale}")

# %% [markdown] Logits to a token
# The last position's state meets every row of the output head: one number for each token of the
# vocabulary. The largest wins (greedy). With random weights every token is about as likely as any other.

# %% Logits to a token  show="top_tokens:last" fast=true
last = logits[0, -1].astype(np.float64)  # [V]
probabilities = np.exp(last - last.max())
probabilities /= probabilities.sum()
best = int(probabilities.argmax())
known = tokenizer.vocab_size
said = repr(tokenizer.token_bytes(best)) if best < known else f"beyond the {known} tokens of this tokenizer"
print(f"token {best}: {said}")
print(f"probability {probabilities[best]:.5f}; evenly spread it would be {1 / config.vocab_size:.5f}")

# %% [markdown] The bill
# Each row of the trace knows its FLOPs and its sizes. Priced with the numbers of an H800 (a file, with a
# source for each value) it becomes time: an op takes as long as its arithmetic or its memory traffic,
# whichever is longer. This laptop computes in float32; the bill takes BF16, two bytes a number, as a GPU
# would. Which will it be here, arithmetic or memory?

# %% The bill on an H800  fast=true
h800 = load_hardware("h800")
priced = bill(trace, h800, config=config)
total = priced.total
flops, moved = total.matrix_flops + total.vector_flops, sum(total.bytes.values())
print(f"{flops:,} FLOPs, {moved:,} bytes: {flops / moved:.1f} FLOPs a byte")
print(f"{total.seconds * 1e6:.2f} us on one {priced.hardware_name}, bound by {total.bound}")

# %% [markdown] Who moved all that?
# Attention, the experts, the output head: which op moves most bytes? And bytes of what?

# %% Which op moves most bytes?
by_bytes = sorted(priced.by_op, key=lambda op: -sum(op.bytes.values()))
for op in by_bytes[:5]:
    share = sum(op.bytes.values()) / moved
    print(f"{op.name:18} eq. {op.equations[0]:4} {sum(op.bytes.values()):9,} bytes  {share:5.1%}  {op.bound}")
most = by_bytes[0]
kind = max(most.bytes, key=lambda name: most.bytes[name])
print(f"{most.name} moves most; {most.bytes[kind] / sum(most.bytes.values()):.0%} of it is {kind}")

# %% [markdown] The number to take home
# One prediction reads every weight it meets once and does little with each: it is bound by memory. Few
# experts of many (section 2.1.2 of the report) save arithmetic and reading alike; a batch shares what is
# read among many predictions. What it cannot share is each one's own cache, and so V3 keeps a latent there
# and not keys and values (section 2.1.1). What does it keep of one token, in all its layers, and what would
# plain attention?

# %% What the cache keeps of a token  fast=true
from minidsv3.cost import kv_bytes_mha, kv_bytes_per_token

for name, sizes in (("nano", config), ("V3", v3)):
    latent, full = kv_bytes_per_token(sizes), kv_bytes_mha(sizes)
    print(f"{name:5} latent {latent:7,} bytes a token; unfolded {full:9,}: {full / latent:.1f} x as many")

# %% [markdown] Your turn
# Write the softmax: `minidsv3 check 00`. How the latent works is lesson 05: `minidsv3 lesson run 05`. See
# an op: `minidsv3 ops mla.softmax`. See every op of a prediction by a model that you trained:
# `minidsv3 trace "def add(a, b):"`.
