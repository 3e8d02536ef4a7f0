"""Writes routing.json and README.md of examples/tiny-mixtral.

    python3 tools/python/describe_example.py --text tinyshakespeare.txt

Routing is recorded over the whole validation text in windows of <s> and 511
tokens, with the bfloat16 weights computed in float32. The model card takes
its numbers from metrics.json, routing.json and a seeded sample.
"""

import argparse
import json
import math
import pathlib

import torch
import transformers
from tokenizers import Tokenizer

import golden_example
import train_example

WINDOW = train_example.CONTEXT
SAMPLE = 256   # tokens whose experts are listed one by one


@torch.no_grad()
def routes(model, windows):
    """Chosen experts [tokens, layers, k] and their weights, the best first."""
    experts, weights = [], []
    for window in windows:
        logits = model(window[None], use_cache=False, output_router_logits=True).router_logits
        chosen = [layer.softmax(-1).topk(model.config.num_experts_per_tok, dim=-1) for layer in logits]
        experts.append(torch.stack([c.indices for c in chosen], dim=1))
        weights.append(torch.stack([c.values / c.values.sum(-1, keepdim=True) for c in chosen], dim=1))
    return torch.cat(experts), torch.cat(weights)


def layer_statistics(experts, weights, count):
    """Counts of one layer: choices, first choices, weight, pairs of experts chosen together."""
    chosen = torch.nn.functional.one_hot(experts, count)
    together = torch.einsum("tke,tlf->ef", chosen.double(), chosen.double())
    share = chosen.sum((0, 1)).double() / experts.numel()
    return {
        "counts": chosen.sum((0, 1)).tolist(), "first_counts": chosen[:, 0].sum(0).tolist(),
        "mean_weight": [round(float((chosen * weights[..., None]).sum() / max(1, chosen.sum())), 4)
                        for chosen in chosen.permute(2, 0, 1).unsqueeze(-1)],
        "co_activation": (together - together.diag().diag()).long().tolist(),
        "entropy_bits": round(float(-(share * share.clamp(min=1e-12).log2()).sum()), 4),
        "max_over_mean": round(float(share.max() * count), 4),
    }


def transitions(left, right, count):
    """How often expert e of a layer is followed by expert f in the next, over all pairs of slots."""
    one, other = (torch.nn.functional.one_hot(x, count).sum(1).double() for x in (left, right))
    return torch.einsum("te,tf->ef", one, other).long().tolist()


def routing_record(model, tokenizer, ids):
    """Everything that routing.json holds."""
    bos, count = tokenizer.token_to_id(train_example.BOS), model.config.num_local_experts
    windows = [torch.cat((torch.tensor([bos]), part)) for part in ids.split(WINDOW - 1)]
    experts, weights = routes(model, windows)
    layers = experts.shape[1]
    return {
        "about": "Experts chosen over the validation text; bfloat16 weights computed in float32. "
                 "co_activation[e][f]: tokens that chose both. transitions[l][e][f]: tokens that chose e in layer l "
                 "and f in layer l+1. sample: one entry a token, experts[layer] best first with their weights.",
        "experts": count, "top_k": experts.shape[2], "layers": layers, "tokens": experts.shape[0],
        "window": WINDOW,
        "per_layer": [layer_statistics(experts[:, i], weights[:, i], count) for i in range(layers)],
        "transitions": [transitions(experts[:, i], experts[:, i + 1], count) for i in range(layers - 1)],
        "sample": [{"id": int(windows[0][i]), "text": tokenizer.decode([int(windows[0][i])], skip_special_tokens=False),
                    "experts": experts[i].tolist(),
                    "weights": [[round(float(w), 4) for w in row] for row in weights[i]]} for i in range(SAMPLE)],
    }


def compact(record):
    """JSON with one line for each row of numbers and each sampled token."""
    lines = ["{"]
    for key, value in record.items():
        if key == "per_layer":
            parts = [" {" + ", ".join(f'\n  {json.dumps(k)}: {json.dumps(v)}' for k, v in layer.items()) + "}"
                     for layer in value]
            lines.append(f' "{key}": [\n' + ",\n".join(parts) + "],")
        elif isinstance(value, list):
            lines.append(f' "{key}": [\n  ' + ",\n  ".join(json.dumps(v, ensure_ascii=False) for v in value) + "],")
        else:
            lines.append(f' "{key}": {json.dumps(value)},')
    lines[-1] = lines[-1].rstrip(",")
    return "\n".join(lines + ["}"]) + "\n"


@torch.no_grad()
def sample(model, tokenizer, prompt, tokens):
    """A sampled continuation with the settings of generation_config.json."""
    torch.manual_seed(3)
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    return tokenizer.decode(model.generate(ids, max_new_tokens=tokens)[0].tolist())


CARD = """# tiny-mixtral

A small model of the Mixtral architecture ({parameters:,} weights, {active:,} of them used for a token) that writes
in the manner of Shakespeare's plays. It exists so that the compiler and the runtime can be seen to work end to end
without a download. It knows nothing and answers nothing.

| | |
| --- | --- |
| layers, width, heads | {num_hidden_layers} layers, hidden {hidden_size}, {num_attention_heads} query and {num_key_value_heads} key/value heads of {head_dim} |
| experts | {num_local_experts} a layer, {num_experts_per_tok} chosen, each {intermediate_size} wide (SwiGLU) |
| vocabulary | {vocab_size}: byte-level BPE, `<s>` = 0 in front of every text, `</s>` = 1 (never seen in training) |
| positions | {max_position_embeddings}; trained on windows of {context} |
| weights | bfloat16, one tensor an expert, keys as in the published Mixtral checkpoints |

## Training

Text: "tinyshakespeare" (public domain plays, {characters:,} characters). The first 90 % train ({training_tokens:,}
tokens), the rest validates ({validation_tokens:,} tokens, {validation_characters:,} characters). The saved weights
are an exponential moving average at the step with the lowest validation loss (step {best}), so the validation loss is
that of a chosen checkpoint, not of unseen text.

| setting | value |
| --- | --- |
{settings}

{seconds:.0f} s for {steps} steps on one {device} (shared with three other runs), PyTorch {torch}, transformers
{transformers}. The command is in `tools/python/README.md`; a run on a GPU does not repeat bit by bit. Ten settings were
tried (dropout 0.2 to 0.5, learning rate 1e-3 to 3e-3, weight decay 0.1 to 0.5, BPE dropout 0 to 0.15); five of them
were stopped after some 2,200 steps. This one had the lowest validation loss of all.

| result, bfloat16 weights | value |
| --- | --- |
| validation loss | {validation_loss:.4f} nats a token |
| the same by characters | {validation_nats_per_character:.4f} nats, **{validation_bits_per_character:.4f} bits a character** |

## Sample

Temperature {temperature}, top-k {top_k}, top-p {top_p}, prompt `{prompt}`:

```text
{text}
```

## Routing

`routing.json` holds, over the whole validation text, how often every expert was chosen in every layer, which were
chosen together, which follow which from layer to layer, and the choices of {sampled} tokens one by one.

| layer | tokens for each expert | fullest / mean |
| --- | --- | --- |
{routing}

## Files

`config.json`, `generation_config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`: an ordinary
model directory. `metrics.json`: settings, losses and the log of the training run. `routing.json`: see above.
"""


def card(options, model, tokenizer, routing):
    """The text of README.md."""
    metrics = json.loads((options.model / "metrics.json").read_text())
    config, generation = model.config, model.generation_config
    experts = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    total = sum(p.numel() for p in model.parameters())
    best = min(metrics["log"], key=lambda entry: entry["validation_loss"])
    prompt = "First Citizen:\n"
    return CARD.format(
        **{k: getattr(config, k) for k in (
            "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "num_local_experts",
            "num_experts_per_tok", "intermediate_size", "vocab_size", "max_position_embeddings")},
        **{k: v for k, v in metrics.items() if k.startswith(("training_tokens", "validation_"))},
        parameters=total, active=total - experts + experts * config.num_experts_per_tok // config.num_local_experts,
        head_dim=config.hidden_size // config.num_attention_heads, context=WINDOW, best=best["step"],
        characters=metrics["training_characters"] + metrics["validation_characters"],
        settings="\n".join(f"| {k} | {v} |" for k, v in metrics["settings"].items() if k not in ("device", "every")),
        seconds=metrics["log"][-1]["seconds"], steps=metrics["settings"]["steps"], device=metrics["device"],
        torch=metrics["versions"]["torch"], transformers=metrics["versions"]["transformers"],
        temperature=generation.temperature, top_k=generation.top_k, top_p=generation.top_p,
        prompt=prompt.strip(), text=sample(model, tokenizer, prompt, 260).strip(), sampled=SAMPLE,
        routing="\n".join(f"| {i} | {', '.join(map(str, s['counts']))} | {s['max_over_mean']:.2f} |"
                          for i, s in enumerate(routing["per_layer"])))


def main():
    """Writes both files and checks the recorded loss."""
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, default=root / "examples" / "tiny-mixtral")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    model = golden_example.load(options.model, torch.float32)
    _, validation = train_example.split(options.text.read_text(encoding="utf-8"))
    ids, _ = train_example.encoded(tokenizer, validation, 0.0)
    windows = train_example.validation_windows(ids, tokenizer.token_to_id(train_example.BOS))
    nats = train_example.validation_loss(model, windows, "cpu")
    model.eval()
    print(f"{nats / len(ids):.6f} nats a token, {nats / len(validation) / math.log(2):.6f} bits a character")
    routing = routing_record(model, tokenizer, ids)
    (options.model / "routing.json").write_text(compact(routing))
    (options.model / "README.md").write_text(card(options, model, tokenizer, routing))


if __name__ == "__main__":
    main()
