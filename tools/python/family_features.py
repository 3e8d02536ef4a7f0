"""Switches that turn one feature of a model off, to prove that a golden sees it.

A Feature changes a copy of a loaded model (its configuration, its modules or
a function of its source file). If the logits do not move by far more than the
tolerance of the parity tests, the checkpoint would not notice an
implementation without the feature, and make_families.py refuses it.
"""

import contextlib
import copy
import sys
from dataclasses import dataclass
from typing import Callable, Optional

import torch
from torch import nn


@dataclass(frozen=True)
class Feature:
    """A named change to a model.

    config: changes the configuration as a dictionary; the model is built anew.
    model: changes the modules in place.
    source: gives replacements for functions of the model's source file.
    open_mask: let every position see every other.
    """

    name: str
    change: str
    config: Optional[Callable] = None
    model: Optional[Callable] = None
    source: Optional[Callable] = None
    open_mask: bool = False


def changed(feature, model):
    """A copy of the model without the feature."""
    if feature.config is None:
        other = copy.deepcopy(model)
    else:
        settings = copy.deepcopy(model.config.to_dict())
        feature.config(settings)
        other = rebuilt(model, type(model.config).from_dict(settings)).to(model.dtype)
    if feature.model is not None:
        with torch.no_grad():
            feature.model(other)
    return other


def rebuilt(model, config):
    """A model of another configuration with the same weights, all in plain code."""
    other = type(model)._from_config(config, attn_implementation="eager", experts_implementation="eager")
    other.load_state_dict(model.state_dict())
    return other.eval()


@contextlib.contextmanager
def patched(feature, model):
    """The replacements of the feature in the model's source file, for a while."""
    source = sys.modules[type(model).__module__]
    kept = {}
    if feature.source is not None:
        for name, value in feature.source(source).items():
            kept[name] = getattr(source, name)
            setattr(source, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(source, name, value)


def routers(model):
    """The routing modules of a model."""
    return [m for m in model.modules() if type(m).__name__.endswith(("TopKRouter", "TopkRouter"))]


def experts(model):
    """The modules that hold a layer's experts."""
    return [m for m in model.modules() if type(m).__name__.endswith("Experts")]


def attentions(model):
    """The attention modules of a model."""
    return [layer.self_attn for layer in model.model.layers]


def norms(model):
    """Every normalisation of a model, those of queries and keys too."""
    return [m for m in model.modules() if hasattr(m, "variance_epsilon") or isinstance(m, nn.LayerNorm)]


def is_dense(mlp):
    """Whether a layer's feed-forward part is an ordinary MLP among routed ones."""
    return type(mlp).__name__.endswith("MLP") and hasattr(mlp, "down_proj")


def routing(router, outputs):
    """Splits what a router returns into logits, weights and expert numbers."""
    if type(router).__name__.startswith("GraniteMoe"):
        index, weights, logits = outputs
        return logits, weights, index
    return outputs


def with_weights(router, outputs, weights):
    """What a router returns, with other weights."""
    logits, _, index = routing(router, outputs)
    if type(router).__name__.startswith("GraniteMoe"):
        return index, weights, logits
    return logits, weights, index


def each(members, action):
    """An in-place change of every member that a selector finds."""
    def run(model):
        for member in members(model):
            action(member)
    return run


def setting(members, name, value):
    """An in-place change of one attribute, to a value or a function of the old one."""
    def run(member):
        old = getattr(member, name)
        setattr(member, name, value(old) if callable(value) else value)
    return each(members, run)


def zeroed(members, *names):
    """An in-place change that zeroes tensors, named by dotted paths."""
    def run(member):
        for name in names:
            value = member
            for part in name.split("."):
                value = getattr(value, part)
            value.zero_()
    return each(members, run)


def rotate_pairs(x, cos, sin):
    """Rotary embedding of neighbouring pairs instead of halves (or the reverse is wanted)."""
    half = x.shape[-1] // 2
    cos, sin = cos[..., :half], sin[..., :half]
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


def pairs_for_halves(source):
    """Replaces the rotary embedding by the other layout of its dimensions."""
    if hasattr(source, "apply_rotary_emb"):
        def halves_of_complex(q, k, freqs_cis):
            cos, sin = freqs_cis.real.unsqueeze(1), freqs_cis.imag.unsqueeze(1)
            def turn(x):
                first, second = x.chunk(2, dim=-1)
                return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
            return turn(q), turn(k)
        return {"apply_rotary_emb": halves_of_complex}
    if hasattr(source, "apply_rotary_pos_emb_interleave"):
        return {"apply_rotary_pos_emb_interleave": source.apply_rotary_pos_emb}
    def pairs(q, k, cos, sin, unsqueeze_dim=1):
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin)
    return {"apply_rotary_pos_emb": pairs}


def tile_heads(source):
    """Query head i reads key head i mod n instead of i div (heads / n)."""
    return {"repeat_kv": lambda states, times: states.repeat(1, times, 1, 1)}


def still(model):
    """No rotation at any position."""
    rotary = model.model.rotary_emb
    zeros = torch.zeros_like(rotary.inv_freq)
    rotary.inv_freq.copy_(zeros)
    rotary.original_inv_freq.copy_(zeros)
    if hasattr(rotary, "rope_init_fn") and "Phimoe" in type(rotary).__name__:
        rotary.rope_init_fn = lambda config, device=None: (zeros, 1.0)


def no_eps(norm):
    """The normalisation without its epsilon."""
    setattr(norm, "variance_epsilon" if hasattr(norm, "variance_epsilon") else "eps", 0.0)


def full_softmax(router):
    """Weights are the probabilities over all experts, not over the chosen."""
    inner = router.forward
    def forward(hidden):
        outputs = inner(hidden)
        logits, weights, index = routing(router, outputs)
        return with_weights(router, outputs, torch.softmax(logits, dim=-1).gather(1, index).to(weights.dtype))
    router.forward = forward


def bias_in_weight(router):
    """The selection bias counts in the weights too."""
    inner = router.forward
    def forward(hidden):
        outputs = inner(hidden)
        logits, _, index = routing(router, outputs)
        weights = (logits.sigmoid() + router.e_score_correction_bias).gather(1, index)
        weights = weights / weights.sum(dim=-1, keepdim=True) * router.routed_scaling_factor
        return with_weights(router, outputs, weights)
    router.forward = forward


def open_gate(layer):
    """The shared expert counts fully."""
    class Open(nn.Module):
        def forward(self, hidden):
            return torch.full((*hidden.shape[:-1], 1), float("inf"), dtype=hidden.dtype)
    if hasattr(layer.mlp, "shared_expert_gate"):
        layer.mlp.shared_expert_gate = Open()


def no_down(name):
    """Drops the contribution of a shared expert."""
    def run(layer):
        if hasattr(layer.mlp, name):
            getattr(layer.mlp, name).down_proj.weight.zero_()
    return run


def no_dense(layer):
    """Drops the contribution of a dense MLP."""
    if is_dense(layer.mlp):
        layer.mlp.down_proj.weight.zero_()


def no_qk_norm(attention):
    """Queries and keys are not normalised."""
    attention.q_norm, attention.k_norm = nn.Identity(), nn.Identity()


def per_head(attention):
    """Queries and keys are normalised per head instead of over all heads."""
    class PerHead(nn.Module):
        def __init__(self, norm, width):
            super().__init__()
            self.norm, self.width = norm, width
        def forward(self, x):
            heads = x.unflatten(-1, (-1, self.width))
            scale = torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + self.norm.variance_epsilon)
            return self.norm.weight * (heads * scale).flatten(-2)
    attention.q_norm = PerHead(attention.q_norm, attention.head_dim)
    attention.k_norm = PerHead(attention.k_norm, attention.head_dim)


def no_latent_norm(attention):
    """The compressed keys and values are not normalised."""
    attention.kv_a_layernorm = nn.Identity()


def plain_gate(expert):
    """The linear half is taken as it is, without the added one."""
    inner = expert._apply_gate
    def gate(gate_up):
        shifted = gate_up.clone()
        shifted[..., 1::2] = shifted[..., 1::2].clamp(-expert.limit, expert.limit) - 1
        return inner(shifted)
    expert._apply_gate = gate


def gelu(member):
    """GELU where the model has its own activation."""
    member.act_fn = nn.GELU()


def rms_for_layer_norm(model):
    """The mean is not subtracted."""
    class NoMean(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.norm = norm
        def forward(self, x):
            scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.norm.eps)
            return x * scale * self.norm.weight + self.norm.bias
    for layer in model.model.layers:
        layer.input_layernorm = NoMean(layer.input_layernorm)
        layer.post_attention_layernorm = NoMean(layer.post_attention_layernorm)
    model.model.norm = NoMean(model.model.norm)


def renormalised_pair(source):
    """The usual renormalised softmax of the two best."""
    def mixer(scores, jitter_eps, training, top_k=2):
        best, index = torch.topk(torch.softmax(scores, dim=-1), top_k, dim=-1)
        return best / best.sum(dim=-1, keepdim=True), index
    return {"sparsemixer": mixer}


def untie(model):
    """An output layer of its own: the embedding's rows shifted by one."""
    model.lm_head.weight = nn.Parameter(model.model.embed_tokens.weight.detach().roll(1, 0).clone())


def default_rope(settings):
    """Rotary embedding without scaling."""
    theta = settings["rope_parameters"]["rope_theta"]
    settings["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}


def unscaled_rotation(model):
    """Rotated queries and keys are not multiplied by the attention factor."""
    model.model.rotary_emb.attention_scaling = 1.0
    if "short_mscale" in model.config.rope_parameters:
        model.config.rope_parameters["short_mscale"] = 1.0


def full_attention(settings):
    """Every layer sees the whole past."""
    if settings.get("layer_types"):
        settings["layer_types"] = ["full_attention"] * settings["num_hidden_layers"]
    else:
        settings["sliding_window"] = None


def window(step):
    """A window that is wider by step."""
    def run(settings):
        settings["sliding_window"] += step
    return run


def layers(model):
    """The decoder layers."""
    return model.model.layers


def itself(model):
    """The model as the only member."""
    return [model]


def attention_bias(attention):
    """No biases in the projections of attention."""
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
        if projection.bias is not None:
            projection.bias.zero_()


def gated(model):
    """Everything with a replaceable activation."""
    return [m for m in model.modules() if hasattr(m, "act_fn")]


def plain_scaling(attention):
    """Scores are divided by the square root of the head width alone."""
    attention.scaling = attention.qk_head_dim ** -0.5


CAUSAL = Feature("causal_mask", "every position sees every other", open_mask=True)
ROPE = Feature("rope", "no rotation", model=still)
ROPE_HALVES = Feature("rope_layout", "the other layout of rotated dimensions (pairs or halves)",
                      source=pairs_for_halves)
GQA = Feature("gqa_grouping", "query head i reads key head i mod n", source=tile_heads)
ATTENTION_SCALE = Feature("attention_scale", "scores scaled by 0.9 times the factor",
                          model=setting(attentions, "scaling", lambda old: 0.9 * old))
NORM_WEIGHT = Feature("norm_weight", "all norm weights are 1",
                      model=each(norms, lambda norm: norm.weight.fill_(1.0)))
NORM_EPS = Feature("norm_eps", "no epsilon in norms", model=each(norms, no_eps))
NORM_BIAS = Feature("norm_bias", "no bias in norms", model=zeroed(norms, "bias"))
NORM_MEAN = Feature("norm_mean", "the mean is not subtracted", model=rms_for_layer_norm)
ACTIVATION = Feature("activation", "gelu", model=each(gated, gelu))
ROPE_SCALING = Feature("rope_scaling", "default rotary frequencies", config=default_rope)
ROPE_ATTENTION_FACTOR = Feature("rope_attention_factor", "no factor on rotated values", model=unscaled_rotation)
YARN_TRUNCATE = Feature("yarn_truncate", "correction range rounded to integers",
                        config=lambda s: s["rope_parameters"].update(truncate=True))
YARN_MSCALE = Feature("yarn_mscale", "no mscale in the attention scale", model=each(attentions, plain_scaling))
TIED = Feature("tied_embeddings", "another output matrix", model=untie)
WINDOW = Feature("sliding_window", "full attention", config=full_attention)
WINDOW_PLUS_ONE = Feature("sliding_window_plus_one", "window wider by one", config=window(1))
WINDOW_MINUS_ONE = Feature("sliding_window_minus_one", "window narrower by one", config=window(-1))
QKV_BIAS = Feature("qkv_bias", "no biases", model=each(attentions, attention_bias))
ATTENTION_BIAS = Feature("attention_bias", "no biases", model=each(attentions, attention_bias))
LM_HEAD_BIAS = Feature("lm_head_bias", "no bias", model=zeroed(itself, "lm_head.bias"))
QK_NORM = Feature("qk_norm", "no norm of queries and keys", model=each(attentions, no_qk_norm))
QK_NORM_PER_HEAD = Feature("qk_norm_width", "norm per head, not over all heads", model=each(attentions, per_head))
LATENT_NORM = Feature("latent_norm", "no norm of the latent", model=each(attentions, no_latent_norm))
SINKS = Feature("attention_sinks", "no sinks", model=each(attentions, lambda a: a.sinks.fill_(float("-inf"))))
TOP_K_LESS = Feature("top_k_less", "one expert fewer", model=setting(routers, "top_k", lambda k: k - 1))
TOP_K_MORE = Feature("top_k_more", "one expert more", model=setting(routers, "top_k", lambda k: k + 1))
RENORMALISE = Feature("topk_renormalisation", "weights are softmax over all experts",
                      model=each(routers, full_softmax))
NORM_TOPK = Feature("norm_topk_prob", "the opposite setting",
                    model=setting(routers, "norm_topk_prob", lambda on: not on))
ROUTER_BIAS = Feature("router_bias", "no bias", model=zeroed(routers, "bias"))
SELECTION_BIAS = Feature("selection_bias", "no bias", model=zeroed(routers, "e_score_correction_bias"))
BIAS_IN_WEIGHT = Feature("selection_bias_not_in_weight", "the bias counts in weights too",
                         model=each(routers, bias_in_weight))
GROUP_LIMIT = Feature("group_limit", "experts of all groups may be chosen",
                      model=each(routers, lambda r: setattr(r, "topk_group", r.num_group)))
ROUTED_SCALING = Feature("routed_scaling_factor", "factor 1", model=setting(routers, "routed_scaling_factor", 1.0))
SPARSEMIXER = Feature("sparsemixer", "renormalised softmax of the two best", source=renormalised_pair)
SHARED_GATE = Feature("shared_expert_gate", "gate fully open", model=each(layers, open_gate))
SHARED_EXPERT = Feature("shared_expert", "no shared expert", model=each(layers, no_down("shared_expert")))
SHARED_EXPERTS = Feature("shared_experts", "no shared experts", model=each(layers, no_down("shared_experts")))
DENSE_LAYERS = Feature("dense_layers", "dense layers give nothing", model=each(layers, no_dense))
EXPERT_BIAS = Feature("expert_bias", "no biases", model=zeroed(experts, "gate_up_proj_bias", "down_proj_bias"))
SWIGLU_CLAMP = Feature("swiglu_clamp", "no clamp", model=setting(experts, "limit", 1e9))
SWIGLU_ALPHA = Feature("swiglu_alpha", "alpha 1", model=setting(experts, "alpha", 1.0))
SWIGLU_PLUS_ONE = Feature("swiglu_plus_one", "no added one", model=each(experts, plain_gate))
EMBEDDING_MULTIPLIER = Feature("embedding_multiplier", "1", model=lambda m: setattr(m.model, "embedding_multiplier", 1.0))
RESIDUAL_MULTIPLIER = Feature("residual_multiplier", "1", model=setting(layers, "residual_multiplier", 1.0))
LOGITS_SCALING = Feature("logits_scaling", "1", model=lambda m: setattr(m.config, "logits_scaling", 1.0))
