"""Makes testdata/example: what transformers computes with examples/tiny-mixtral.

    python3 tools/python/golden_example.py --text tinyshakespeare.txt

The reference is the bfloat16 checkpoint computed in float32 on the CPU. Logits
of 2,048 positions times 1,024 tokens would take 8 MB, so what is stored is the
final hidden state of every position: logits = hidden x lm_head^T, with the
checkpoint's own lm_head.weight, gives them back to float32 accuracy. Some rows
of logits and every row's log-sum-exp check that computation. How far two
bfloat16 computations are from the reference is recorded as context.
"""

import argparse
import json
import pathlib

import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import goldens
import train_example

WINDOWS, LENGTH = 8, 256
CHECKED = 32      # rows of logits that are stored whole
GREEDY = 64       # tokens of each greedy continuation
PROMPTS = ("ROMEO:\n", "First Citizen:\nBefore we proceed any further, ", "KING RICHARD III:\nWhat, ")

TEXTS = ("", " ", "ROMEO:", "But, soft! what light through yonder window breaks?\n", "  two  spaces\tand a tab \n\n",
         "I'll we've he'd 'tis o'er", "1603 was the year; 12,345.67", "naïve café — “quotes”", "日本語 🙂 mixed",
         "<s>written<s> specials</s>", "\r\nCRLF\r\n", "a\u0301 combining", "x\u00a0y\u3000z")


def load(folder, dtype):
    """The checkpoint with plain attention and experts."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager").eval()


def windows_of(tokenizer, text):
    """WINDOWS spread over the validation text, each <s> and LENGTH - 1 tokens from the start of a speech."""
    _, validation = train_example.split(text)
    ids, starts = train_example.encoded(tokenizer, validation, 0.0)
    bos, rows = tokenizer.token_to_id(train_example.BOS), []
    for i in range(WINDOWS):
        at = int(starts[starts >= i * (len(ids) - LENGTH) // WINDOWS][0])
        rows.append(torch.cat((torch.tensor([bos]), ids[at:at + LENGTH - 1])))
    return torch.stack(rows)


def encodings(tokenizer):
    """Token ids of some texts, with and without the special token in front, and what they decode to."""
    found = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        found.append({"text": text, "ids": ids, "ids_special": tokenizer.encode(text).ids,
                      "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    return found


@torch.no_grad()
def compute(model, windows):
    """Final hidden states and logits of every position, window by window."""
    hidden, logits = [], []
    for row in windows:
        states = model.model(row[None], use_cache=False).last_hidden_state
        hidden.append(states[0])
        logits.append(model.lm_head(states)[0])
    return torch.stack(hidden), torch.stack(logits)


def divergence(reference, other):
    """Mean and greatest KL(reference || other) in nats, and the share of equal first choices."""
    p, q = reference.double().log_softmax(-1), other.double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)
    same = (reference.argmax(-1) == other.argmax(-1)).double().mean()
    return {"mean_kl": float(kl.mean()), "max_kl": float(kl.max()), "top1_agreement": float(same),
            "max_abs_logit": float((reference - other.float()).abs().max())}


def narrow(tensor):
    """Rounds to bfloat16 and back."""
    return tensor.bfloat16().float()


def narrow_products(folder):
    """A float32 model whose matrix products take inputs rounded to bfloat16."""
    def experts(self, hidden, index, weights):
        out = torch.zeros_like(hidden)
        for slot in range(index.shape[1]):
            for expert in range(self.num_experts):
                rows = (index[:, slot] == expert).nonzero()[:, 0]
                gate, up = (narrow(hidden[rows]) @ self.gate_up_proj[expert].t()).chunk(2, dim=-1)
                down = narrow(self.act_fn(gate) * up) @ self.down_proj[expert].t()
                out[rows] += down * weights[rows, slot, None]
        return out
    ALL_EXPERTS_FUNCTIONS.register("narrow", experts)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="narrow").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: (narrow(inputs[0]),))
    return model


def narrow_residual(folder):
    """The same with the residual stream rounded to bfloat16 after every addition as well."""
    model = narrow_products(folder)
    model.model.embed_tokens.register_forward_hook(lambda _, __, output: narrow(output))
    for layer in model.model.layers:
        def forward(hidden, layer=layer, **rest):
            between = narrow(hidden + layer.self_attn(hidden_states=layer.input_layernorm(hidden), **rest)[0])
            return narrow(between + layer.mlp(layer.post_attention_layernorm(between)))
        layer.forward = forward
    return model


@torch.no_grad()
def continuations(model, tokenizer):
    """Greedy continuations of the prompts with the least margin of any choice."""
    found = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        begin, margin = len(ids), float("inf")
        while len(ids) < begin + GREEDY:
            best = model(torch.tensor([ids]), use_cache=False).logits[0, -1].topk(2)
            margin = min(margin, float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
        found.append({"prompt": prompt, "prompt_ids": ids[:begin], "tokens": ids[begin:], "margin": margin,
                      "text": tokenizer.decode(ids[begin:])})
    return found


def bfloat16_runs(options, windows, logits):
    """How far computations that round to bfloat16 are from the reference."""
    wide = load(options.model, torch.float32).lm_head.weight.detach()
    hidden, narrow_logits = compute(load(options.model, torch.bfloat16), windows)
    return {
        "transformers_in_bfloat16": divergence(logits, narrow_logits),
        "transformers_in_bfloat16_but_logits_in_float32": divergence(logits, hidden.float() @ wide.t()),
        "bfloat16_inputs_of_matrix_products":
            divergence(logits, compute(narrow_products(options.model), windows)[1]),
        "bfloat16_inputs_of_matrix_products_and_residual_stream":
            divergence(logits, compute(narrow_residual(options.model), windows)[1]),
    }


def main():
    """Writes golden.safetensors and golden.json."""
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, default=root / "examples" / "tiny-mixtral")
    parser.add_argument("--out", type=pathlib.Path, default=root / "testdata" / "example")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    windows = windows_of(tokenizer, options.text.read_text(encoding="utf-8"))
    model = load(options.model, torch.float32).requires_grad_(False)
    hidden, logits = compute(model, windows)
    again = hidden.double() @ model.lm_head.weight.double().t()
    rows = torch.arange(CHECKED) * (WINDOWS * LENGTH // CHECKED) + torch.arange(CHECKED)
    best = logits.topk(2, dim=-1).values
    targets = windows[:, 1:]
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())
    options.out.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({
        "ids": windows.to(torch.int32), "hidden": hidden.contiguous(),
        "log_sum_exp": logits.double().logsumexp(-1).float(), "top1": logits.argmax(-1).to(torch.int32),
        "top1_margin": (best[..., 0] - best[..., 1]).contiguous(), "check.rows": rows.to(torch.int32),
        "check.logits": logits.flatten(0, 1)[rows].contiguous(),
    }, options.out / "golden.safetensors")
    (options.out / "golden.safetensors").chmod(0o644)
    record = {
        "model": "examples/tiny-mixtral", "windows": WINDOWS, "length": LENGTH, "positions": WINDOWS * LENGTH,
        "computed": "bfloat16 weights, float32 arithmetic on the CPU, eager attention, one window at a time",
        "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
        "mean_loss": float(loss), "logits_std": float(logits.std()),
        "logits_from_hidden_max_abs": float((again - logits.double()).abs().max()),
        "kl_from_hidden": divergence(logits, again)["mean_kl"],
        "share_of_margins_below": {str(m): float(((best[..., 0] - best[..., 1]) < m).double().mean())
                                   for m in (0.001, 0.01, 0.03, 0.1)},
        "bfloat16_context": bfloat16_runs(options, windows, logits),
        "encodings": encodings(tokenizer),
        "greedy": continuations(model, tokenizer),
    }
    goldens.write_json(options.out / "golden.json", record)
    print(json.dumps({k: v for k, v in record.items() if k not in ("greedy", "encodings")}, indent=1))


if __name__ == "__main__":
    main()
