"""The tiny random checkpoints: one Case for each directory of testdata/families.

A case says which configuration class is built with which sizes, how its
checkpoint is laid out on disk, and which features must be seen to matter.
Sizes are odd on purpose (prime vocabularies, head widths whose half is odd,
numbers of experts that are no power of two); a directory stays under 400 KB.
"""

from dataclasses import dataclass, field

import family_features as ff


@dataclass
class Case:
    """One tiny checkpoint.

    name: directory under testdata/families.
    config: configuration class of transformers, by name.
    sizes: its keyword arguments.
    features: switches of family_features; each must move the logits.
    stacked: save the library's own stacked expert tensors instead of the
        layout that published checkpoints have.
    shard: size of a shard, as save_pretrained takes it.
    old_keys: rewrite config.json to the key spellings of older releases.
    gains: multiples of 1/sqrt(fan in) for weights whose name contains the key.
    same_weights_as: name of the case whose weights this one repeats.
    prompts: lengths of the two prompts.
    """

    name: str
    config: str
    sizes: dict
    features: list
    stacked: bool = False
    shard: str = "50MB"
    old_keys: bool = False
    gains: dict = field(default_factory=dict)
    same_weights_as: str = ""
    prompts: tuple = (29, 37)


def rope(theta, **scaling):
    """Rotary parameters in today's spelling."""
    return {"rope_type": "default", "rope_theta": theta, **scaling}


ATTENTION = [ff.CAUSAL, ff.ROPE, ff.ROPE_HALVES, ff.GQA, ff.ATTENTION_SCALE]
BASIC = ATTENTION + [ff.NORM_WEIGHT, ff.NORM_EPS, ff.ACTIVATION]
ROUTED = BASIC + [ff.TOP_K_LESS, ff.TOP_K_MORE]

LLAMA = dict(
    vocab_size=160, hidden_size=48, intermediate_size=72, num_hidden_layers=3,
    num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=128,
    rms_norm_eps=1e-5, rope_parameters=rope(10000.0),
    bos_token_id=1, eos_token_id=2,
)

MIXTRAL = dict(
    vocab_size=160, hidden_size=40, intermediate_size=36, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, num_local_experts=8,
    num_experts_per_tok=2, max_position_embeddings=128, rms_norm_eps=1e-5,
    rope_parameters=rope(1e6), sliding_window=None, bos_token_id=1, eos_token_id=2,
)

QWEN2_MOE = dict(
    vocab_size=151, hidden_size=40, intermediate_size=60, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, num_experts=10,
    num_experts_per_tok=4, moe_intermediate_size=20,
    shared_expert_intermediate_size=44, norm_topk_prob=False, qkv_bias=True,
    decoder_sparse_step=1, mlp_only_layers=[0], max_position_embeddings=128,
    rms_norm_eps=1e-6, rope_parameters=rope(1e6), use_sliding_window=False,
    bos_token_id=1, eos_token_id=2,
)

QWEN3_MOE = dict(
    vocab_size=151, hidden_size=36, intermediate_size=52, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, head_dim=14, num_experts=9,
    num_experts_per_tok=3, moe_intermediate_size=22, norm_topk_prob=True,
    decoder_sparse_step=1, mlp_only_layers=[1], max_position_embeddings=128,
    rms_norm_eps=1e-6, rope_parameters=rope(1e6), use_sliding_window=False,
    attention_bias=False, bos_token_id=1, eos_token_id=2,
)

# Short rotary contexts, so that within 50 positions some frequencies are kept,
# some interpolated and some blended.
LLAMA3_ROPE = rope(500.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                   high_freq_factor=4.0, original_max_position_embeddings=32)
GPT_OSS_ROPE = rope(150.0, rope_type="yarn", factor=8.0, beta_fast=4.0, beta_slow=1.0,
                    truncate=False, original_max_position_embeddings=32)
DEEPSEEK_V2_ROPE = rope(100.0, rope_type="yarn", factor=8.0, beta_fast=4.0, beta_slow=1.0,
                        mscale=0.707, mscale_all_dim=1.1, original_max_position_embeddings=32)
DEEPSEEK_V3_ROPE = rope(100.0, rope_type="yarn", factor=8.0, beta_fast=4.0, beta_slow=1.0,
                        mscale=1.0, mscale_all_dim=1.0, original_max_position_embeddings=32)
PHIMOE_ROPE = rope(10000.0, rope_type="longrope", short_mscale=1.243, long_mscale=1.243,
                   short_factor=[1.0, 1.05, 1.3, 1.8, 2.4], long_factor=[1.0, 1.4, 2.0, 4.0, 8.0],
                   original_max_position_embeddings=64)

FIRST_GROUP = [
    Case("llama", "LlamaConfig", LLAMA, BASIC),
    Case("llama_rope3", "LlamaConfig",
         {**LLAMA, "vocab_size": 157, "hidden_size": 40, "num_attention_heads": 4, "head_dim": 16,
          "num_key_value_heads": 2, "rope_parameters": LLAMA3_ROPE},
         BASIC + [ff.ROPE_SCALING], old_keys=True),
    Case("llama_tied", "LlamaConfig",
         {**LLAMA, "vocab_size": 163, "tie_word_embeddings": True}, BASIC + [ff.TIED]),
    Case("mistral", "MistralConfig",
         {**LLAMA, "num_hidden_layers": 2, "vocab_size": 160, "sliding_window": 7, "head_dim": 8},
         BASIC + [ff.WINDOW, ff.WINDOW_PLUS_ONE, ff.WINDOW_MINUS_ONE]),
    Case("mixtral", "MixtralConfig", MIXTRAL, ROUTED + [ff.RENORMALISE], old_keys=True),
    Case("mixtral_stacked", "MixtralConfig", MIXTRAL, ROUTED + [ff.RENORMALISE],
         stacked=True, same_weights_as="mixtral"),
    Case("mixtral_8x22b", "MixtralConfig",
         {**MIXTRAL, "vocab_size": 164, "hidden_size": 48, "intermediate_size": 24, "num_hidden_layers": 3,
          "num_attention_heads": 12, "num_key_value_heads": 2, "num_local_experts": 6},
         ROUTED + [ff.RENORMALISE], shard="120KB"),
    Case("qwen2_moe", "Qwen2MoeConfig", QWEN2_MOE,
         ROUTED + [ff.NORM_TOPK, ff.SHARED_GATE, ff.SHARED_EXPERT, ff.QKV_BIAS, ff.DENSE_LAYERS]),
    Case("qwen2_moe_step", "Qwen2MoeConfig",
         {**QWEN2_MOE, "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [],
          "num_experts": 7, "num_experts_per_tok": 2, "norm_topk_prob": True},
         ROUTED + [ff.NORM_TOPK, ff.SHARED_GATE, ff.SHARED_EXPERT, ff.QKV_BIAS, ff.DENSE_LAYERS]),
    Case("qwen3_moe", "Qwen3MoeConfig", QWEN3_MOE,
         ROUTED + [ff.NORM_TOPK, ff.QK_NORM, ff.DENSE_LAYERS], old_keys=True),
    Case("qwen3_moe_stacked", "Qwen3MoeConfig",
         {**QWEN3_MOE, "num_hidden_layers": 2, "mlp_only_layers": [], "num_experts": 5, "num_experts_per_tok": 2},
         ROUTED + [ff.NORM_TOPK, ff.QK_NORM], stacked=True, gains={"embed_tokens": 0.035}),
    Case("olmoe", "OlmoeConfig",
         dict(vocab_size=156, hidden_size=40, intermediate_size=20, num_hidden_layers=2,
              num_attention_heads=4, num_key_value_heads=2, num_experts=12, num_experts_per_tok=4,
              norm_topk_prob=False, clip_qkv=None, max_position_embeddings=128, rms_norm_eps=1e-5,
              rope_parameters=rope(10000.0), pad_token_id=1, bos_token_id=None, eos_token_id=2),
         ROUTED + [ff.NORM_TOPK, ff.QK_NORM, ff.QK_NORM_PER_HEAD]),
]

NEXT_GROUP = [
    Case("gpt_oss", "GptOssConfig",
         dict(vocab_size=160, hidden_size=40, intermediate_size=24, num_hidden_layers=3,
              num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=9,
              num_local_experts=5, num_experts_per_tok=2, max_position_embeddings=256,
              rms_norm_eps=1e-5, rope_parameters=GPT_OSS_ROPE, attention_bias=True,
              swiglu_limit=7.0, bos_token_id=1, eos_token_id=2),
         ATTENTION + [ff.NORM_WEIGHT, ff.NORM_EPS, ff.TOP_K_LESS, ff.TOP_K_MORE, ff.RENORMALISE,
                      ff.WINDOW, ff.WINDOW_PLUS_ONE, ff.SINKS, ff.ATTENTION_BIAS, ff.ROUTER_BIAS,
                      ff.EXPERT_BIAS, ff.SWIGLU_CLAMP, ff.SWIGLU_ALPHA, ff.SWIGLU_PLUS_ONE,
                      ff.ROPE_SCALING, ff.ROPE_ATTENTION_FACTOR, ff.YARN_TRUNCATE],
         gains={"experts.gate_up_proj": 4.0}),
    Case("deepseek_v2", "DeepseekV2Config",
         dict(vocab_size=160, hidden_size=40, intermediate_size=56, moe_intermediate_size=18,
              num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
              q_lora_rank=None, kv_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=6, v_head_dim=10,
              n_routed_experts=9, n_shared_experts=2, num_experts_per_tok=3, n_group=3, topk_group=2,
              topk_method="group_limited_greedy", routed_scaling_factor=1.7, norm_topk_prob=False,
              first_k_dense_replace=1, max_position_embeddings=256, rms_norm_eps=1e-6,
              rope_parameters=DEEPSEEK_V2_ROPE, bos_token_id=1, eos_token_id=2),
         [f for f in BASIC if f is not ff.GQA] +
         [ff.TOP_K_LESS, ff.TOP_K_MORE, ff.GROUP_LIMIT, ff.ROUTED_SCALING, ff.SHARED_EXPERTS, ff.DENSE_LAYERS,
          ff.LATENT_NORM, ff.ROPE_SCALING, ff.YARN_MSCALE]),
    Case("deepseek_v3", "DeepseekV3Config",
         dict(vocab_size=160, hidden_size=40, intermediate_size=56, moe_intermediate_size=18,
              num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
              q_lora_rank=22, kv_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=6, v_head_dim=10,
              n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=3, n_group=4, topk_group=2,
              routed_scaling_factor=2.5, norm_topk_prob=True, rope_interleave=True,
              first_k_dense_replace=1, max_position_embeddings=256, rms_norm_eps=1e-6,
              rope_parameters=DEEPSEEK_V3_ROPE, num_nextn_predict_layers=0, bos_token_id=1, eos_token_id=2),
         [f for f in BASIC if f is not ff.GQA] +
         [ff.TOP_K_LESS, ff.TOP_K_MORE, ff.GROUP_LIMIT, ff.ROUTED_SCALING, ff.SHARED_EXPERTS, ff.DENSE_LAYERS,
          ff.LATENT_NORM, ff.ROPE_SCALING, ff.YARN_MSCALE, ff.NORM_TOPK, ff.SELECTION_BIAS, ff.BIAS_IN_WEIGHT]),
    Case("granitemoe", "GraniteMoeConfig",
         dict(vocab_size=160, hidden_size=40, intermediate_size=30, num_hidden_layers=3,
              num_attention_heads=4, num_key_value_heads=2, num_local_experts=7, num_experts_per_tok=3,
              embedding_multiplier=12.0, attention_multiplier=0.4, residual_multiplier=0.7,
              logits_scaling=6.0, tie_word_embeddings=True, max_position_embeddings=128,
              rms_norm_eps=1e-6, rope_parameters=rope(10000.0), bos_token_id=1, eos_token_id=2),
         ROUTED + [ff.RENORMALISE, ff.EMBEDDING_MULTIPLIER, ff.RESIDUAL_MULTIPLIER, ff.LOGITS_SCALING, ff.TIED],
         gains={"embed_tokens": 0.005}),
    Case("phimoe", "PhimoeConfig",
         dict(vocab_size=160, hidden_size=40, intermediate_size=34, num_hidden_layers=2,
              num_attention_heads=4, num_key_value_heads=2, num_local_experts=6, num_experts_per_tok=2,
              router_jitter_noise=0.25, attention_bias=True, lm_head_bias=True, sliding_window=None,
              max_position_embeddings=256, rms_norm_eps=1e-5, rope_parameters=PHIMOE_ROPE,
              bos_token_id=1, eos_token_id=2),
         BASIC + [ff.ATTENTION_BIAS, ff.NORM_BIAS, ff.NORM_MEAN, ff.LM_HEAD_BIAS, ff.SPARSEMIXER,
                  ff.ROPE_SCALING, ff.ROPE_ATTENTION_FACTOR]),
]

CASES = FIRST_GROUP + NEXT_GROUP
