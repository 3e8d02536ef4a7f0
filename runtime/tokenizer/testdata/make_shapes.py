"""Makes shapes/*.json.gz: small tokenizers of many shapes with reference encodings.

    pip install tokenizers==0.23.3
    python make_shapes.py

Each file holds {"tokenizer": the tokenizer.json, "cases": [{text, ids, ids_special, decoded,
decoded_special, decoded_skip}], "decodes": [{ids, decoded, decoded_skip}]}. The vocabularies are trained on
the texts of qwen/cases.json.gz; the decodes are random ids, which encoding would never give.
"""

import gzip
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors, trainers

HERE = Path(__file__).parent
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MARKED = [
    "",
    "x",
    " ",
    "<s>",
    " <s> hello </s> ",
    "hello<s>world",
    "<mask>  a <mask>b <MASK> c<mask>",
    "foo food foo.foo _foo foo_ foo",
    "FOO Foo fOO  café CAFÉ CAFE\u0301",
    "<|begin|><|end|>\n\n<|end|>\n x",
    "a   b    c\t\td  ",
    "\u2581a \u2581 b\u2581\u2581",
    "İstanbul DIŞ ſtraße ﬁne Ⅷ ½",
    "it's IT'S it'ſ we'LL we'll 'tis y'all'd've",
    "e" + "\u0301" * 40 + "x",
    "\u0315\u0300\u05ae\u0062 a\u0315\u0300\u05ae\u0062",
    "각각 \u1100\u1161\u11a8 \u1112\u1161\u11ab",
    "x\u200dy z\u200cw _a_ ٣foo foo٣",
    "🤗 🏳️‍🌈 <unk> 🤗🤗",
    "word1 word22 word333 4444 55555 ²³ ٣٤",
    "HelloWorld helloWORLD HTTPServer's iPhone's/\n/path/to\r\n",
    "aaaa" * 20,
    "abab" * 15 + "!" * 30 + " " * 25 + "\n" * 7,
]


def texts():
    cases = json.load(gzip.open(HERE / "qwen" / "cases.json.gz"))
    return [c["text"] for c in cases]


def train(tok, size=600, **options):
    options.setdefault("initial_alphabet", [])
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)
    tok.train_from_iterator(texts(), trainer)
    return tok


def byte_level(split, tokens=(), size=600, normalizer=None, before=(), **model):
    """A byte-level tokenizer: pre-tokenizers before, Split by a pattern, ByteLevel."""
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    parts = list(before)
    if split:
        parts.append(pre.Split(Regex(split), "isolated"))
    parts.append(pre.ByteLevel(add_prefix_space=False, use_regex=False))
    tok.pre_tokenizer = pre.Sequence(parts) if len(parts) > 1 else parts[0]
    train(tok, size, initial_alphabet=pre.ByteLevel.alphabet())
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.add_tokens(list(tokens))
    return changed(tok, model)


def changed(tok, model):
    """The tokenizer with members of its model changed."""
    data = json.loads(tok.to_str())
    data["model"].update(model)
    return Tokenizer.from_str(json.dumps(data))


def special(text, **options):
    return AddedToken(text, special=True, normalized=False, **options)


def gpt2():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    train(tok, initial_alphabet=pre.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=True)
    return tok


def roberta():
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.pre_tokenizer = pre.ByteLevel(add_prefix_space=True)
    train(tok, initial_alphabet=pre.ByteLevel.alphabet(), special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    tok.add_special_tokens([special("<mask>", lstrip=True)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tok


def llama3():
    tok = byte_level(LLAMA3, [special("<|begin|>"), special("<|end|>")], ignore_merges=True)
    begin = tok.token_to_id("<|begin|>")
    template = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tok


def neox():
    runs = [AddedToken(" " * n, normalized=True) for n in range(8, 1, -1)]
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    train(tok, initial_alphabet=pre.ByteLevel.alphabet())
    tok.add_tokens(runs)
    tok.decoder = decoders.ByteLevel()
    return tok


def deepseek():
    before = [pre.Split(Regex(r"\p{N}{1,3}"), "isolated"), pre.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated")]
    return byte_level(DEEPSEEK, [special("<|begin|>"), AddedToken("<|end|>", normalized=False)], before=before)


def starcoder():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    train(tok, initial_alphabet=pre.ByteLevel.alphabet())
    tok.decoder = decoders.ByteLevel()
    return tok


def flags():
    """Added tokens with every flag, under a normalizer that changes much."""
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\d{2}"), "#"),
            normalizers.Strip(),
        ]
    )
    tok.pre_tokenizer = pre.Whitespace()
    train(tok, special_tokens=["<unk>", "<s>", "</s>"])
    tok.add_tokens(
        [
            AddedToken("foo", single_word=True, normalized=False),
            AddedToken("CAFÉ", normalized=True),
            AddedToken("we", single_word=True, normalized=True),
        ]
    )
    tok.add_special_tokens([special("<mask>", lstrip=True, rstrip=True), special("<|end|>", rstrip=True)])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A </s> </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tok  # without a decoder


def words(model, **options):
    tok = Tokenizer(models.BPE(unk_token="<unk>", **model))
    tok.pre_tokenizer = pre.Sequence([pre.WhitespaceSplit(), pre.Punctuation("contiguous")])
    train(tok, special_tokens=["<unk>"], limit_alphabet=60, **options)
    return tok


def suffix():
    tok = words({"end_of_word_suffix": "</w>", "fuse_unk": True}, end_of_word_suffix="</w>")
    tok.decoder = decoders.BPEDecoder(suffix="</w>")
    return tok


def prefix():
    tok = words({"continuing_subword_prefix": "##"}, continuing_subword_prefix="##")
    tok.decoder = decoders.Sequence([decoders.Replace("##", ""), decoders.Fuse()])
    return tok


def metaspace(scheme, split, decoder):
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.normalizer = normalizers.NFKC()
    tok.pre_tokenizer = pre.Metaspace(prepend_scheme=scheme, split=split)
    train(tok, special_tokens=["<unk>", "<s>"], limit_alphabet=120)
    tok.decoder = decoder
    return tok


def gemma(byte_tokens, **model):
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = pre.Split("▁", "merged_with_previous")
    names = ["<unk>", "<s>"] + [f"<0x{b:02X}>" for b in byte_tokens]
    train(tok, 900, special_tokens=names, limit_alphabet=80)
    data = json.loads(tok.to_str())
    data["added_tokens"] = data["added_tokens"][:2]
    data["model"].update(byte_fallback=True, **model)
    data["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    }
    return Tokenizer.from_str(json.dumps(data))


def behaviour(name, invert, decoder):
    before = [pre.Split(Regex(r"\s+|[aeiou]"), name, invert), pre.CharDelimiterSplit("z")]
    tok = byte_level("", before=before)
    tok.decoder = decoder
    return tok


SHAPES = {
    "gpt2": gpt2,
    "roberta": roberta,
    "llama3": llama3,
    "qwen2": lambda: byte_level(QWEN2, [special("<|end|>"), AddedToken("<s>", normalized=False)], normalizer=normalizers.NFC()),
    "o200k": lambda: byte_level(O200K, [special("<|begin|>"), special("<|end|>")]),
    "deepseek": deepseek,
    "neox": neox,
    "starcoder": starcoder,
    "flags": flags,
    "suffix": suffix,
    "prefix": prefix,
    "metaspace_always": lambda: metaspace("always", True, decoders.Metaspace(prepend_scheme="always")),
    "metaspace_first": lambda: metaspace("first", True, decoders.Metaspace(prepend_scheme="first")),
    "metaspace_never": lambda: metaspace(
        "never", False, decoders.Sequence([decoders.Fuse(), decoders.Metaspace(prepend_scheme="never"), decoders.Strip(" ", 2, 0)])
    ),
    "gemma": lambda: gemma(range(256), fuse_unk=True),
    "half_fallback": lambda: gemma(range(0x80, 0xE0), fuse_unk=False),
    "merged_with_next": lambda: behaviour("merged_with_next", False, decoders.Sequence([decoders.ByteLevel(), decoders.Replace("the", "THE")])),
    "merged_with_previous": lambda: behaviour("merged_with_previous", True, decoders.Sequence([decoders.ByteLevel(), decoders.Replace(Regex("[aeiou]+"), "_")])),
    "contiguous": lambda: behaviour("contiguous", False, decoders.Sequence([decoders.Fuse(), decoders.ByteLevel()])),
    "removed": lambda: behaviour("removed", True, decoders.Sequence([decoders.Replace("Ġ", " "), decoders.Fuse(), decoders.Replace("aa", "b")])),
}


def encoded(tok, text):
    plain, framed = tok.encode(text, add_special_tokens=False).ids, tok.encode(text).ids
    return {
        "text": text,
        "ids": plain,
        "ids_special": framed,
        "decoded": tok.decode(plain, skip_special_tokens=False),
        "decoded_special": tok.decode(framed, skip_special_tokens=False),
        "decoded_skip": tok.decode(framed, skip_special_tokens=True),
    }


def decoded(tok, rng, count=60):
    size = tok.get_vocab_size(with_added_tokens=True)
    for i in range(count):
        ids = [rng.randrange(size) for _ in range(rng.randrange(12) if i else 0)]
        if i % 4 == 1:  # the low numbers, where special and byte tokens are
            ids = [rng.randrange(min(size, 260)) for _ in range(12)]
        yield {
            "ids": ids,
            "decoded": tok.decode(ids, skip_special_tokens=False),
            "decoded_skip": tok.decode(ids, skip_special_tokens=True),
        }


def write(name, data):
    raw = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    (HERE / "shapes").mkdir(exist_ok=True)
    (HERE / "shapes" / f"{name}.json.gz").write_bytes(gzip.compress(raw, 9, mtime=0))
    print(name, len(raw))


def main():
    short = [t for t in texts() if len(t) <= 120]
    for name, make in SHAPES.items():
        rng = random.Random(name)
        tok = make()
        cases = [encoded(tok, t) for t in MARKED + rng.sample(short, 120)]
        write(name, {"tokenizer": json.loads(tok.to_str()), "cases": cases, "decodes": list(decoded(tok, rng))})
    for name in ["mixtral/tokenizer", "mixtral/tokenizer_metaspace", "qwen/tokenizer"]:
        rng = random.Random(name)
        tok = Tokenizer.from_str(gzip.open(HERE / f"{name}.json.gz", "rt").read())
        cases = [encoded(tok, t) for t in MARKED]
        write(name.replace("/", "_"), {"cases": cases, "decodes": list(decoded(tok, rng, 200))})


if __name__ == "__main__":
    main()
