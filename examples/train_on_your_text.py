"""Train a small model on text of yours, and let it go on writing.

    python examples/train_on_your_text.py [FILE OR FOLDER ...]

Without an argument it learns from a short text below. `minidsv3 run --text` does the same with a report,
checkpoints and a price; here are its parts: text, tokenizer, stream, trainer, held-out bits, decoding.
"""

import sys

from minidsv3 import Model, ModelConfig, TrainConfig
from minidsv3.corpus import Document
from minidsv3.training import Trainer, compressed_bits_per_byte, evaluate, prepare, read_text, train_tokenizer
from minidsv3.training.preparation import split_text

STEPS = 60


def short_text() -> list[Document]:
    """A song that counts down: little to learn, and easily seen whether it was learned."""
    verses = [f"{n} boats upon the water,\n{n} boats at sea.\nOne sailed home,\n" for n in range(120, 0, -1)]
    return [Document("boats.txt", "".join(verses))]


def main(paths: list[str]) -> None:
    text = read_text(paths, seed=0) if paths else split_text(short_text(), seed=0)
    tokenizer = train_tokenizer(text, vocab_size=512)
    config = ModelConfig.preset(
        "nano", vocab_size=tokenizer.vocab_size, dim=64, n_layers=2, n_routed_experts=8
    )
    plan = TrainConfig(steps=STEPS, seq_len=64, batch_sequences=4, warmup_steps=5)
    data = prepare(text, tokenizer, plan)

    trainer = Trainer(config, plan, data.stream)
    while not trainer.finished:
        report = trainer.step()
        if report.step % 10 == 0:
            print(
                f"step {report.step}: main {report.losses['main']:.3f}, MTP {report.losses['mtp_1_mean']:.3f}"
            )

    bits = evaluate(trainer.parameters, data.held_out, text.held_out_bytes, plan.seq_len).bits_per_byte
    packed = compressed_bits_per_byte([tokenizer.decode_bytes(ids[1:]) for ids in data.held_out])
    print(f"held out: {bits[0]:.2f} bits a byte, MTP {bits[1]:.2f}, gzip {packed['gzip -9']:.2f}")

    model = Model(config, trainer.parameters)
    prompt = data.held_out[0][1:25].tolist()
    result = model.generate(prompt, max_new_tokens=24, speculative=True)
    print(f"{tokenizer.decode(prompt)}>>>{tokenizer.decode(result.tokens)}")
    print(f"{result.drafted} tokens drafted by the MTP module, {result.accepted} accepted")


if __name__ == "__main__":
    main(sys.argv[1:])
