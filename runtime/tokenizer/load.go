package tokenizer

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"moec/runtime/tokenizer/strictjson"
)

// maxFile is the largest tokenizer.json that is read, in bytes; the largest
// published ones have about 40 MB.
const maxFile = 256 << 20

// Load reads a tokenizer.json, or the one in a directory.
func Load(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path = filepath.Join(path, "tokenizer.json")
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; give a Hugging Face model directory or its tokenizer.json", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file; give a Hugging Face model directory or its tokenizer.json", path)
	}
	if info.Size() > maxFile {
		return nil, tooLarge(path, info.Size())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

func tooLarge(name string, size int64) error {
	return fmt.Errorf("%s: %d bytes, at most %d are read; this is not a tokenizer", name, size, maxFile)
}

// Parse reads the contents of a tokenizer.json. The name is for errors.
func Parse(name string, data []byte) (*Tokenizer, error) {
	if len(data) > maxFile {
		return nil, tooLarge(name, int64(len(data)))
	}
	if bytes.HasPrefix(data, []byte("version https://git-lfs")) {
		return nil, fmt.Errorf("%s: a Git LFS pointer, not the file itself; fetch it with git lfs pull", name)
	}
	r, err := strictjson.New(name, data)
	if err != nil {
		return nil, err
	}
	file, err := r.Members()
	if err != nil {
		return nil, err
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	t := &Tokenizer{name: name}
	if err := t.readModel(file); err != nil {
		return nil, err
	}
	if err := t.readComponents(file); err != nil {
		return nil, err
	}
	return t, nil
}

// readModel reads the model and the added tokens, which share one vocabulary.
func (t *Tokenizer) readModel(file *strictjson.Members) error {
	at, err := file.Need("model")
	if err != nil {
		return err
	}
	m, err := at.Members()
	if err != nil {
		return err
	}
	if t.model, err = readBPE(m); err != nil {
		return err
	}
	t.vocab = t.model.vocab
	if err := t.readNormalizer(file); err != nil {
		return err
	}
	t.model.index()
	var added []addedToken
	if list, ok := file.Get("added_tokens"); ok {
		if added, err = readAddedTokens(list, t.model); err != nil {
			return err
		}
	}
	if err := t.vocab.seal(m.Errorf); err != nil {
		return err
	}
	t.added, err = newAddedTokens(added, t.normalize)
	return err
}

func (t *Tokenizer) readNormalizer(file *strictjson.Members) (err error) {
	if at, ok := file.Get("normalizer"); ok {
		t.normalize, err = normalizerKinds.read(at, 0)
	}
	return err
}

// readComponents reads what comes after the normalizer. "truncation" and
// "padding" are not read: they are settings for batches of training data.
func (t *Tokenizer) readComponents(file *strictjson.Members) (err error) {
	if at, ok := file.Get("pre_tokenizer"); ok {
		if t.cut, err = preTokenizerKinds.read(at, 0); err != nil {
			return err
		}
	}
	if at, ok := file.Get("post_processor"); ok {
		if t.frame, err = postProcessorKinds.read(at, 0); err != nil {
			return err
		}
		if id, ok := checkFrame(t.frame, t.VocabSize()); !ok {
			return at.Errorf("the post_processor adds token %d, but there are %d; export the tokenizer again", id, t.VocabSize())
		}
	}
	if at, ok := file.Get("decoder"); ok {
		t.decoders, err = decoderKinds.read(at, 0)
	}
	return err
}

// readBPE reads the member "model".
func readBPE(m *strictjson.Members) (*bpe, error) {
	kind, err := m.String("type", "BPE") // files from before 2020 have none
	if err != nil {
		return nil, err
	}
	if kind != "BPE" {
		return nil, m.Errorf("the model's type is %.60q, only BPE is known; take a model with a byte-pair tokenizer", kind)
	}
	table, err := m.Need("vocab")
	if err != nil {
		return nil, err
	}
	model := &bpe{unknown: none}
	if model.vocab, err = readVocabulary(table); err != nil {
		return nil, err
	}
	if err := model.readOptions(m); err != nil {
		return nil, err
	}
	list, err := m.Need("merges")
	if err != nil {
		return nil, err
	}
	return model, model.readMerges(list)
}

// readOptions reads what the model has besides its tokens and merges.
func (m *bpe) readOptions(members *strictjson.Members) error {
	for _, flag := range []struct {
		name string
		to   *bool
	}{{"fuse_unk", &m.fuseUnknown}, {"byte_fallback", &m.byteFallback}, {"ignore_merges", &m.wholeWords}} {
		var err error
		if *flag.to, err = members.Bool(flag.name, false); err != nil {
			return err
		}
	}
	var err error
	if m.prefix, err = members.String("continuing_subword_prefix", ""); err != nil {
		return err
	}
	if m.suffix, err = members.String("end_of_word_suffix", ""); err != nil {
		return err
	}
	if at, ok := members.Get("dropout"); ok {
		literal, err := at.Number()
		if err != nil {
			return err
		}
		if strings.Trim(literal, "0.") != "" {
			return at.Errorf("the model's dropout is %.20s, which makes encoding random; set it to null", literal)
		}
	}
	if at, ok := members.Get("unk_token"); ok {
		token, err := at.String()
		if err != nil {
			return err
		}
		if m.unknown = m.vocab.find(token); m.unknown == none {
			return at.Errorf("the unk_token %.60q is not in the vocabulary; export the tokenizer again", token)
		}
	}
	return nil
}

// readMerges reads the list of merges. A merge is "a b" or ["a", "b"].
func (m *bpe) readMerges(r *strictjson.Reader) error {
	m.merges = make(map[uint64]joined, len(m.vocab.ids))
	return r.Array(func(rank int) error {
		left, right, err := readMerge(r, rank)
		if err != nil {
			return err
		}
		a, b := m.vocab.find(left), m.vocab.find(right)
		both := m.vocab.find(left + strings.TrimPrefix(right, m.prefix))
		for _, part := range []struct {
			id    int32
			token string
		}{{a, left}, {b, right}, {both, left + strings.TrimPrefix(right, m.prefix)}} {
			if part.id == none {
				return r.Errorf("merge %d joins %.60q and %.60q, but token %.60q is not in the vocabulary; export the tokenizer again", rank, left, right, part.token)
			}
		}
		// Of a pair listed twice the reference keeps the last.
		m.merges[pairKey(a, b)] = joined{int32(rank), both}
		return nil
	})
}

func readMerge(r *strictjson.Reader, rank int) (left, right string, err error) {
	if r.Peek() == strictjson.String {
		both, err := r.String()
		if err != nil {
			return "", "", err
		}
		left, right, found := strings.Cut(both, " ")
		if !found || strings.Contains(right, " ") {
			return "", "", r.Errorf("merge %d is %.60q, want two tokens with one space between them; export the tokenizer again", rank, both)
		}
		return left, right, nil
	}
	var parts []string
	err = r.Array(func(int) error {
		part, err := r.String()
		parts = append(parts, part)
		return err
	})
	if err == nil && len(parts) != 2 {
		return "", "", r.Errorf("merge %d has %d tokens, want two; export the tokenizer again", rank, len(parts))
	}
	if err != nil {
		return "", "", err
	}
	return parts[0], parts[1], nil
}
