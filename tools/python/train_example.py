"""Trains examples/tiny-mixtral: a small Mixtral on the works of Shakespeare, with its own tokenizer.

    python3 tools/python/train_example.py tokenizer --text tinyshakespeare.txt --out examples/tiny-mixtral
    python3 tools/python/train_example.py model --text tinyshakespeare.txt --out examples/tiny-mixtral

The first 90 % of the text train, the rest validates. The model is a
MixtralForCausalLM of transformers; training computes every expert for every
token and weights the result (the same function, and faster at this size than
gathering). What is saved is the exponential moving average of the weights at
its best validation loss, in bfloat16, as an ordinary directory.
"""

import argparse
import json
import math
import pathlib
import time

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional
from transformers import GenerationConfig, MixtralConfig, MixtralForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

VOCAB = 1024
BOS, EOS = "<s>", "</s>"
CONTEXT = 512      # positions of a training window; the first is always <s>
TRAIN_SHARE = 0.9  # of the characters, from the start


def split(text):
    """Training and validation text, cut at the start of a speech."""
    cut = text.index("\n\n", int(len(text) * TRAIN_SHARE)) + 2
    return text[:cut], text[cut:]


def train_tokenizer(text, out):
    """Writes tokenizer.json and tokenizer_config.json of a byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[BOS, EOS], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B",
                                      special_tokens=[(BOS, tokenizer.token_to_id(BOS))]),
    ])
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "bos_token": BOS, "eos_token": EOS, "add_bos_token": True, "add_prefix_space": False,
        "clean_up_tokenization_spaces": False, "model_max_length": 2 * CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def encoded(tokenizer, text, dropout):
    """Token ids of a text, and the token positions where a speech starts."""
    tokenizer.model.dropout = dropout or None
    encoding = tokenizer.encode(text, add_special_tokens=False)
    tokenizer.model.dropout = None
    starts, at = [0], {0}
    while (found := text.find("\n\n", starts[-1])) >= 0:
        starts.append(found + 2)
    at.update(starts)
    positions = [i for i, (begin, _) in enumerate(encoding.offsets) if begin in at]
    return torch.tensor(encoding.ids), torch.tensor(positions)


class Text:
    """Training windows: half of them begin with a speech, the others anywhere."""

    def __init__(self, tokenizer, text, options):
        rates = [0.0] + [options.bpe_dropout] * (options.variants if options.bpe_dropout else 0)
        self.variants = []
        for rate in rates:
            ids, starts = encoded(tokenizer, text, rate)
            starts = starts[starts < len(ids) - CONTEXT]
            self.variants.append((ids.to(options.device), starts.to(options.device)))
        self.bos = tokenizer.token_to_id(BOS)
        self.batch, self.device = options.batch, options.device

    def windows(self, step):
        """A batch of CONTEXT + 1 tokens each: inputs and, shifted by one, targets."""
        plain = step % 2 == 0 or len(self.variants) == 1
        ids, starts = self.variants[0 if plain else 1 + (step // 2) % (len(self.variants) - 1)]
        anywhere = torch.randint(len(ids) - CONTEXT, (self.batch,), device=self.device)
        speeches = starts[torch.randint(len(starts), (self.batch,), device=self.device)]
        begin = torch.where(torch.arange(self.batch, device=self.device) % 2 == 0, anywhere, speeches)
        taken = ids[begin[:, None] + torch.arange(CONTEXT, device=self.device)]
        return torch.cat((torch.full_like(taken[:, :1], self.bos), taken), dim=1)


def all_experts(self, hidden, index, weights):
    """Every expert for every token, weighted by the router's choice (zero elsewhere)."""
    share = torch.zeros(hidden.shape[0], self.num_experts, dtype=weights.dtype, device=hidden.device)
    share = share.scatter(1, index, weights)
    gate, up = torch.einsum("td,efd->etf", hidden, self.gate_up_proj).chunk(2, dim=-1)
    inner = self.act_fn(gate) * up * share.t()[:, :, None].to(gate.dtype)
    return torch.einsum("etf,edf->td", inner, self.down_proj).to(hidden.dtype)


def make_model(tokenizer, options):
    """The untrained model, with dropout hooked behind the embedding and every block."""
    ALL_EXPERTS_FUNCTIONS.register("all_experts", all_experts)
    config = MixtralConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=192, intermediate_size=192, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=4, num_local_experts=8, num_experts_per_tok=2,
        max_position_embeddings=2 * CONTEXT, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5, sliding_window=None, initializer_range=0.05, router_aux_loss_coef=options.aux,
        attention_dropout=options.dropout / 2, bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS))
    model = MixtralForCausalLM._from_config(config, attn_implementation="sdpa",
                                            experts_implementation="all_experts").float()
    def drop(module, _, output):
        return functional.dropout(output, options.dropout, module.training)
    for module in [model.model.embed_tokens] + [m for l in model.model.layers for m in (l.self_attn.o_proj, l.mlp)]:
        module.register_forward_hook(drop)
    return model.to(options.device)


def balance_loss(router_logits, top_k):
    """Mean over layers of experts x sum of (share of choices x mean probability); top_k if balanced."""
    total = 0.0
    for logits in router_logits:
        probabilities = logits.float().softmax(-1)
        chosen = functional.one_hot(probabilities.topk(top_k, dim=-1).indices, logits.shape[-1]).float()
        total = total + logits.shape[-1] * (chosen.sum(1).mean(0) * probabilities.mean(0)).sum()
    return total / len(router_logits)


def validation_windows(ids, bos):
    """The validation text in windows of <s> and CONTEXT tokens, the last one shorter."""
    return [torch.cat((torch.tensor([bos]), part)) for part in ids.split(CONTEXT) if len(part) > 1]


@torch.no_grad()
def validation_loss(model, windows, device):
    """Summed negative log-likelihood in nats over the windows' targets, in float32."""
    model.eval()
    total = 0.0
    full = [w for w in windows if len(w) == CONTEXT + 1]
    for batch in [*torch.stack(full).split(32), *[w[None] for w in windows if len(w) <= CONTEXT]]:
        batch = batch.to(device)
        logits = model(batch[:, :-1], use_cache=False, output_router_logits=False).logits.float()
        total += float(functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"))
    model.train()
    return total


def rate(step, options):
    """Learning rate: linear warm-up, then a cosine down to a twentieth."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    part = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * part)))


def optimizer_of(model, options):
    """AdamW; weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": options.decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.95), fused=options.device == "cuda")


def step_once(model, optimizer, windows, options):
    """One update; returns the language loss and the balance loss as tensors."""
    with torch.autocast(options.device, dtype=torch.bfloat16):
        outputs = model(windows[:, :-1], use_cache=False, output_router_logits=True)
    loss = functional.cross_entropy(outputs.logits.float().flatten(0, 1), windows[:, 1:].flatten())
    balance = balance_loss(outputs.router_logits, model.config.num_experts_per_tok)
    optimizer.zero_grad(set_to_none=True)
    (loss + options.aux * balance).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach(), balance.detach()


def train(model, data, windows, scored, options):
    """Trains; returns the best averaged weights and the log of evaluations."""
    optimizer, log, best, kept = optimizer_of(model, options), [], math.inf, None
    names = [name for name, _ in model.named_parameters()]
    live = [p for _, p in model.named_parameters()]
    average = [p.detach().clone() for p in live]
    begun = time.time()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, options)
        loss, balance = step_once(model, optimizer, data.windows(step), options)
        torch._foreach_lerp_(average, [p.detach() for p in live], 1 - min(options.ema, (step + 1) / (step + 10)))
        if (step + 1) % options.every and step + 1 != options.steps:
            continue
        raw = [p.detach().clone() for p in live]
        load(live, average)
        nats = validation_loss(model, windows, options.device) / scored["tokens"]
        load(live, raw)
        log.append({"step": step + 1, "seconds": round(time.time() - begun, 1), "train_loss": round(float(loss), 4),
                    "balance": round(float(balance), 4), "validation_loss": round(nats, 4)})
        print(json.dumps(log[-1]), flush=True)
        if nats < best:
            best, kept = nats, [v.clone() for v in average]
    return dict(zip(names, kept)), log


def load(parameters, values):
    """Copies values into the parameters."""
    with torch.no_grad():
        torch._foreach_copy_(parameters, values)


def train_model(text, options):
    """Trains the model and writes its directory and metrics.json."""
    torch.manual_seed(options.seed)
    tokenizer = Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    training, validation = split(text)
    data = Text(tokenizer, training, options)
    ids, _ = encoded(tokenizer, validation, 0.0)
    scored = {"tokens": len(ids), "characters": len(validation)}
    windows = validation_windows(ids, data.bos)
    model = make_model(tokenizer, options)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(data.variants[0][0])} training tokens, "
          f"{len(ids)} validation tokens", flush=True)
    weights, log = train(model, data, windows, scored, options)
    weights = {name: value.bfloat16().float() for name, value in weights.items()}
    model.load_state_dict(weights)
    nats = validation_loss(model, windows, options.device)
    model.bfloat16().save_pretrained(options.out)
    config = options.out / "config.json"
    settings = json.loads(config.read_text())
    settings["attention_dropout"] = 0.0
    settings.pop("_experts_implementation", None)
    config.write_text(json.dumps(settings, indent=2) + "\n")
    GenerationConfig(bos_token_id=model.config.bos_token_id, eos_token_id=model.config.eos_token_id, do_sample=True,
                     temperature=0.8, top_k=50, top_p=0.95, max_new_tokens=400).save_pretrained(options.out)
    metrics = {
        "settings": {k: v if isinstance(v, (int, float)) else str(v) for k, v in vars(options).items()
                     if k not in ("out", "text", "tokenizer", "job")},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "training_tokens": len(data.variants[0][0]), "training_characters": len(training), **{
            f"validation_{k}": v for k, v in scored.items()},
        "validation_loss": nats / scored["tokens"], "validation_nats_per_character": nats / scored["characters"],
        "validation_bits_per_character": nats / scored["characters"] / math.log(2), "log": log,
    }
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"validation loss {metrics['validation_loss']:.4f} nats a token, "
          f"{metrics['validation_bits_per_character']:.4f} bits a character", flush=True)


def main():
    """Trains the tokenizer or the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("tokenizer", "model"))
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, help="directory of tokenizer.json, if not --out")
    parser.add_argument("--device", default="cuda")
    for name, value in dict(steps=2400, batch=32, warmup=100, every=100, seed=1, variants=16).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in dict(lr=2e-3, dropout=0.4, decay=0.5, aux=0.02, ema=0.99).items():
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.add_argument("--bpe-dropout", type=float, default=0.15)
    options = parser.parse_args()
    options.tokenizer = options.tokenizer or options.out
    text = options.text.read_text(encoding="utf-8")
    if options.job == "tokenizer":
        train_tokenizer(split(text)[0], options.out)
    else:
        train_model(text, options)


if __name__ == "__main__":
    main()
