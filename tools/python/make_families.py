"""Makes testdata/families: tiny random checkpoints with the logits that transformers computes.

    python3 tools/python/make_families.py [--out testdata/families] [--only NAME ...]

Each directory holds config.json, one or more safetensors files, golden.safetensors
and golden.json; tools/python/README.md describes them. Everything runs on the
CPU in float32 with eager attention. A seed is taken only if routing is stable,
greedy choices have a margin, float32 noise is small (against a run in float64
throughout) and every feature of the case moves the logits.
"""

import argparse
import contextlib
import hashlib
import json
import pathlib
import shutil
import sys
import warnings

import numpy as np
import safetensors
import safetensors.torch
import torch
import transformers
from transformers import AutoModelForCausalLM, modeling_rope_utils

import family_cases
import family_features as ff
import goldens

TOLERANCE = 2e-5          # max abs error of the parity tests
MIN_EFFECT = 100 * TOLERANCE
MAX_NOISE = TOLERANCE / 4  # of float32 against float64, so that another order of sums fits too
MIN_MARGIN = 5e-3         # of the greedy choice over the second best
LOGITS_STD = 1.05         # wanted standard deviation of the logits
GREEDY = 16               # tokens of the continuation
PERTURBATION = 1e-5       # relative change of the weights that must not move routing
MAX_BYTES = 400_000
SEEDS = 400


class Unfit(Exception):
    """The seed does not give a checkpoint that tests well."""


def generator(seed, name):
    """A PRNG that depends on the seed and the tensor's name alone."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.Generator(np.random.PCG64([seed, int.from_bytes(digest[:8], "little")]))


def gain_of(name, case):
    """Standard deviation of a matrix, in multiples of 1/sqrt(fan in)."""
    for part, gain in case.gains.items():
        if part in name:
            return gain
    for part, gain in (("q_proj", 1.1), ("k_proj", 1.1), ("q_b_proj", 1.1), ("shared_expert_gate", 1.2),
                       ("router", 1.4), ("mlp.gate.", 1.4), ("experts", 1.1)):
        if part in name:
            return gain
    return 1.0


def draw(name, shape, seed, case):
    """The random value of one tensor."""
    normal = generator(seed, name).standard_normal(shape)
    if "embed_tokens" in name:
        # Small enough for the epsilon of the first norm to matter.
        return normal * case.gains.get("embed_tokens", 0.2 if case.sizes["rms_norm_eps"] > 5e-6 else 0.06)
    if "norm" in name:
        return normal * 0.2 if name.endswith("bias") else np.clip(1 + 0.25 * normal, 0.4, 1.6)
    if name.endswith("sinks"):
        return normal
    if "bias" in name:
        return normal * (0.15 if "e_score" in name else 0.4)
    transposed = case.config == "GptOssConfig" and ".experts." in name
    fan_in = shape[-2] if transposed else shape[-1]
    return normal * gain_of(name, case) / np.sqrt(fan_in)


def build(case, seed):
    """A model of the case with random weights whose logits have the wanted deviation."""
    config = getattr(transformers, case.config)(**case.sizes)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", experts_implementation="eager").float().eval()
    with torch.no_grad():
        for name, value in list(model.named_parameters()) + [
                (n, b) for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")]:
            value.copy_(torch.from_numpy(draw(name, tuple(value.shape), seed, case)).float())
        spread = torch.cat([run(model, ids)[0].flatten() for ids in prompts_of(case, seed)]).std()
        target = model.model.norm.weight if model.config.tie_word_embeddings else model.lm_head.weight
        target.mul_(LOGITS_STD / spread)
    return model


def prompts_of(case, seed):
    """Two prompts; the first starts with the first token id of text, 1."""
    vocab = case.sizes["vocab_size"]
    picks = generator(seed, "prompts")
    return [[1] + picks.integers(3, vocab, size=length - 1).tolist() for length in case.prompts]


def run(model, ids, feature=None):
    """Logits of every position, and what the routers chose in every layer."""
    chosen, hooks = [], []
    for router in ff.routers(model):
        hooks.append(router.register_forward_hook(
            lambda module, _, outputs: chosen.append(ff.routing(module, outputs)[2].sort(dim=-1).values)))
    mask = None
    if feature is not None and feature.open_mask:
        mask = torch.zeros(1, 1, len(ids), len(ids), dtype=model.dtype)
    with torch.no_grad():
        outputs = model(torch.tensor([ids]), attention_mask=mask, use_cache=False, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return outputs.logits[0], chosen, [h[0] for h in outputs.hidden_states]


def greedy(model, ids):
    """The continuation, the logits that each token was chosen from, and the least margin."""
    ids, rows = list(ids), []
    for _ in range(GREEDY):
        row = run(model, ids)[0][-1]
        rows.append(row)
        ids.append(int(row.argmax()))
    rows = torch.stack(rows)
    best = rows.topk(2, dim=-1).values
    return ids[-GREEDY:], rows, float((best[:, 0] - best[:, 1]).min())


def cached(model, ids):
    """The continuation that the library's own generate finds with its cache."""
    with torch.no_grad():
        tokens = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=GREEDY, pad_token_id=0)
    return tokens[0, len(ids):].tolist()


class Wide:
    """The torch module as the model's source sees it, with float64 under the name of float32."""

    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def in_double(model):
    """Makes the places that the library pins to float32 compute in float64."""
    sources = [sys.modules[type(model).__module__], modeling_rope_utils]
    kept = torch.Tensor.float
    torch.Tensor.float = lambda tensor: tensor.double()
    for source in sources:
        source.torch = Wide()
    try:
        yield
    finally:
        torch.Tensor.float = kept
        for source in sources:
            source.torch = torch


def double_run(model, prompts):
    """The same computation in float64 throughout, frequencies included."""
    with in_double(model):
        wide = ff.rebuilt(model, model.config).double()
        rotary = type(wide.model.rotary_emb)(model.config)
        wide.model.rotary_emb = rotary
        assert rotary.inv_freq.dtype == torch.float64
        return [run(wide, ids) for ids in prompts]


def perturbed(model, seed):
    """The model with every weight changed by a relative random amount."""
    other = ff.copy.deepcopy(model)
    with torch.no_grad():
        for name, value in other.named_parameters():
            noise = generator(seed, "perturb " + name).standard_normal(tuple(value.shape))
            value.mul_(1 + PERTURBATION * torch.from_numpy(noise).float())
    return other


def same_routing(left, right):
    """Whether two runs chose the same experts everywhere."""
    return all(torch.equal(a, b) for one, other in zip(left, right) for a, b in zip(one[1], other[1]))


def difference(left, right):
    """Max abs difference of logits over all prompts."""
    return max(float((a[0].double() - b[0].double()).abs().max()) for a, b in zip(left, right))


def effects(case, model, prompts, base):
    """How far each feature's absence moves the logits."""
    found = {}
    for feature in case.features:
        other = ff.changed(feature, model)
        with ff.patched(feature, other):
            runs = [run(other, ids, feature) for ids in prompts]
        found[feature.name] = {"change": feature.change, "max_abs": difference(base, runs)}
    return found


def judge(case, model, prompts):
    """Everything that is recorded of a checkpoint; raises Unfit if it tests badly."""
    base = [run(model, ids) for ids in prompts]
    wide = double_run(model, prompts)
    noise = difference(base, wide)
    if noise > MAX_NOISE or not same_routing(base, wide):
        raise Unfit(f"float32 noise {noise:.2g}")
    for i in range(4):
        if not same_routing(base, [run(perturbed(model, i), ids) for ids in prompts]):
            raise Unfit("routing near a tie")
    moved = effects(case, model, prompts, base)
    weak = {name: e["max_abs"] for name, e in moved.items() if not e["max_abs"] >= MIN_EFFECT}
    if weak:
        raise Unfit(f"features without effect: {weak}")
    continuations = [greedy(model, ids) for ids in prompts]
    margin = min(c[2] for c in continuations)
    if margin < MIN_MARGIN:
        raise Unfit(f"greedy margin {margin:.2g}")
    eos = case.sizes["eos_token_id"]
    if any(eos in c[0] or len(set(c[0])) < 4 for c in continuations):
        raise Unfit("dull or ended continuation")
    if any(cached(model, ids) != c[0] for ids, c in zip(prompts, continuations)):
        raise Unfit("generate with a cache continues differently")
    return base, continuations, margin, noise, moved


def old_spelling(path):
    """Rewrites config.json to the keys of releases before 5."""
    settings = json.loads(path.read_text())
    rope = settings.pop("rope_parameters")
    settings["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        settings["rope_scaling"] = rope
    if settings["model_type"] == "qwen3_moe":
        settings["num_experts"] = settings.pop("num_local_experts")
    settings["torch_dtype"] = settings.pop("dtype")
    settings["transformers_version"] = "4.36.0"
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def save(case, model, folder):
    """Writes the checkpoint as the library does, and the configuration's older spelling if wanted."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=case.shard, save_original_format=not case.stacked)
    config = folder / "config.json"
    settings = json.loads(config.read_text())
    settings.pop("_experts_implementation", None)
    config.write_text(json.dumps(settings, indent=2) + "\n")
    if case.old_keys:
        old_spelling(config)


def key_patterns(folder):
    """The tensors on disk, layer and expert numbers folded."""
    found = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safetensors.safe_open(file, "pt") as tensors:
            for key in tensors.keys():
                parts = key.split(".")
                for i, part in enumerate(parts):
                    if part.isdigit():
                        parts[i] = "{expert}" if parts[i - 1] == "experts" else "{layer}"
                shape = list(tensors.get_slice(key).get_shape())
                entry = found.setdefault(".".join(parts), {"shapes": [], "tensors": 0})
                entry["tensors"] += 1
                if shape not in entry["shapes"]:
                    entry["shapes"].append(shape)
    return dict(sorted(found.items()))


def write_golden(folder, case, seed, prompts, result):
    """Writes golden.safetensors and golden.json."""
    base, continuations, margin, noise, moved = result
    tensors = {}
    for i, ids in enumerate(prompts):
        logits, chosen, hidden = base[i]
        tokens, rows, _ = continuations[i]
        tensors[f"prompt.{i}.ids"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"prompt.{i}.logits"] = logits.contiguous()
        tensors[f"prompt.{i}.greedy"] = torch.tensor(tokens, dtype=torch.int32)
        tensors[f"prompt.{i}.greedy_logits"] = rows.contiguous()
        for layer, index in enumerate(chosen):
            tensors[f"prompt.{i}.experts.{layer}"] = index.to(torch.int32).contiguous()
        if i == 0:
            for layer, value in enumerate(hidden):
                tensors[f"prompt.0.hidden.{layer}"] = value.contiguous()
    safetensors.torch.save_file(tensors, folder / "golden.safetensors")
    patterns = key_patterns(folder)
    logits = torch.cat([b[0].flatten() for b in base])
    record = {
        "name": case.name, "seed": seed, "config_class": case.config,
        "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
        "computed": "float32 on the CPU, eager attention, whole prompt at once, no cache",
        "layout": "stacked experts" if any(".experts." in k and "{expert}" not in k or "input_linear" in k
                                           for k in patterns)
                  else "per-expert tensors" if any("{expert}" in k for k in patterns) else "dense",
        "config_keys": "older spelling" if case.old_keys else "today's spelling",
        "same_weights_as": case.same_weights_as or None,
        "tolerance": TOLERANCE,
        "logits_std": float(logits.std()), "logits_max_abs": float(logits.abs().max()),
        "float32_noise_max_abs": noise, "greedy_margin": margin,
        "routing_stable_under_relative_change": PERTURBATION,
        "prompts": [{"ids": ids, "greedy": continuations[i][0]} for i, ids in enumerate(prompts)],
        "features": moved, "keys": patterns,
    }
    goldens.write_json(folder / "golden.json", record)


def make(case, out):
    """Finds a seed that tests well and writes the directory."""
    folder = out / case.name
    reasons = []
    for seed in range(1, SEEDS):
        model = build(case, seed)
        prompts = prompts_of(case, seed)
        try:
            judge(case, model, prompts)
        except Unfit as reason:
            reasons.append(f"seed {seed}: {reason}")
            continue
        save(case, model, folder)
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager").eval()
        result = judge(case, loaded, prompts)
        write_golden(folder, case, seed, prompts, result)
        for file in folder.iterdir():
            file.chmod(0o644)
        size = sum(f.stat().st_size for f in folder.glob("model*.safetensors"))
        if size > MAX_BYTES:
            raise SystemExit(f"{folder}: {size} bytes of weights, limit {MAX_BYTES}")
        weakest = min(result[4].items(), key=lambda item: item[1]["max_abs"])
        print(f"{case.name}: seed {seed}, {size} bytes, noise {result[3]:.1e}, margin {result[2]:.2g}, "
              f"weakest {weakest[0]} {weakest[1]['max_abs']:.2g}", flush=True)
        return
    raise SystemExit(f"{case.name}: no fit seed; last reasons: {reasons[-8:]}")


def main():
    """Makes the directories named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=pathlib.Path, default=root / "testdata" / "families")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for case in family_cases.CASES:
        if not options.only or case.name in options.only:
            make(case, options.out)


if __name__ == "__main__":
    main()
