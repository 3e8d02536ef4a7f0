package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// bpe is the byte-pair-encoding model: it starts from a word's characters and
// joins neighbours, always the pair that comes first in the list of merges.
type bpe struct {
	vocab        *vocabulary
	outside      map[int32]bool // tokens of the vocabulary that are no part of the model
	merges       map[uint64]joined
	small        [smallRunes]int32 // token of each low character, or none
	single       map[rune]int32    // token of each other character that has one
	byteTokens   [256]int32        // token "<0xNN>" of each byte
	prefix       string            // before every character but a word's first
	suffix       string            // after a word's last character
	unknown      int32             // token for characters without one, or none
	fuseUnknown  bool              // a run of unknown characters is one token
	byteFallback bool              // spell unknown characters by byteTokens
	wholeWords   bool              // a word that is a token is not cut up at all
}

// find returns the number of a token of the model, or none.
func (m *bpe) find(token string) int32 {
	if id := m.vocab.find(token); !m.outside[id] {
		return id
	}
	return none
}

// none stands for a token that does not exist.
const none = -1

// smallRunes covers ASCII and the letters that stand for bytes.
const smallRunes = 0x180

// joined is what a pair of tokens becomes.
type joined struct {
	rank  int32 // place in the list of merges
	token int32
}

func pairKey(left, right int32) uint64 {
	return uint64(uint32(left))<<32 | uint64(uint32(right))
}

// index fills the tables that are looked up by character.
func (m *bpe) index() {
	for i := range m.small {
		m.small[i] = none
	}
	m.single = make(map[rune]int32)
	for token, id := range m.vocab.ids {
		c, size := utf8.DecodeRuneInString(token)
		if size == 0 || size != len(token) {
			continue
		}
		if c < smallRunes {
			m.small[c] = id
		} else {
			m.single[c] = id
		}
	}
	for b := range m.byteTokens {
		m.byteTokens[b] = m.vocab.find(fmt.Sprintf("<0x%02X>", b))
	}
}

// merger holds the working memory of merging, kept from word to word.
type merger struct {
	symbols []symbol
	heap    []candidate
}

// symbol is one token of a word in a doubly linked list.
type symbol struct {
	token      int32 // none once it is merged into its left neighbour
	prev, next int32 // places in the list, none at its ends
}

// candidate is a possible merge of a symbol with its right neighbour. The order
// is the rank, then the place from left to right.
type candidate struct {
	order uint64 // rank in the upper half, place in the lower
	token int32  // what the pair becomes
}

// encode appends the tokens of one word.
func (m *bpe) encode(ids []int, word string, work *merger) []int {
	if m.wholeWords {
		if id := m.find(word); id != none {
			return append(ids, int(id))
		}
	}
	m.spell(word, work)
	m.mergeAll(work)
	for i := range work.symbols {
		if token := work.symbols[i].token; token != none {
			ids = append(ids, int(token))
		}
	}
	return ids
}

// spell sets the symbols to the word's characters.
func (m *bpe) spell(word string, work *merger) {
	work.symbols = work.symbols[:0]
	unknown := false // an unknown character waits to be written
	for i, size := 0, 0; i < len(word); i += size {
		var c rune
		c, size = utf8.DecodeRuneInString(word[i:])
		token := m.character(c, i == 0, i+size == len(word))
		if token == none && m.byteFallback && m.spellBytes(word[i:i+size], work) {
			continue
		}
		if token == none && m.unknown == none {
			continue // the reference drops it as well
		}
		if unknown && (token != none || !m.fuseUnknown) {
			work.add(m.unknown)
			unknown = false
		}
		if token == none {
			unknown = true
		} else {
			work.add(token)
		}
	}
	if unknown {
		work.add(m.unknown)
	}
}

// character returns the token of one character at its place in a word.
func (m *bpe) character(c rune, first, last bool) int32 {
	if (first || m.prefix == "") && (!last || m.suffix == "") {
		if c < smallRunes {
			return m.small[c]
		}
		if token, ok := m.single[c]; ok {
			return token
		}
		return none
	}
	spelled := string(c)
	if !first {
		spelled = m.prefix + spelled
	}
	if last {
		spelled += m.suffix
	}
	return m.find(spelled)
}

// spellBytes writes a character as its bytes' tokens, if all of them exist.
func (m *bpe) spellBytes(char string, work *merger) bool {
	for i := range len(char) {
		if m.byteTokens[char[i]] == none {
			return false
		}
	}
	for i := range len(char) {
		work.add(m.byteTokens[char[i]])
	}
	return true
}

func (w *merger) add(token int32) {
	at := int32(len(w.symbols))
	w.symbols = append(w.symbols, symbol{token: token, prev: at - 1, next: at + 1})
}

// mergeAll joins symbols until no pair of neighbours is in the list of merges.
// The heap makes it O(n log n) in the length of the word, which matters where a
// word is the whole text, as in Mixtral's tokenizer.
func (m *bpe) mergeAll(work *merger) {
	symbols := work.symbols
	if len(symbols) < 2 {
		return
	}
	symbols[len(symbols)-1].next = none
	work.heap = work.heap[:0]
	for i := range symbols[:len(symbols)-1] {
		m.offer(work, int32(i))
	}
	work.heapify()
	for len(work.heap) > 0 {
		best := work.pop()
		left := int32(best.order & 0xffffffff)
		right := symbols[left].next
		if symbols[left].token == none || right == none {
			continue
		}
		pair, ok := m.merges[pairKey(symbols[left].token, symbols[right].token)]
		if !ok || pair.token != best.token {
			continue // one of the two has changed since the candidate was made
		}
		symbols[left].token, symbols[left].next = best.token, symbols[right].next
		symbols[right].token = none
		if next := symbols[left].next; next != none {
			symbols[next].prev = left
			if m.offer(work, left) {
				work.up(len(work.heap) - 1)
			}
		}
		if prev := symbols[left].prev; prev != none {
			if m.offer(work, prev) {
				work.up(len(work.heap) - 1)
			}
		}
	}
}

// offer appends the candidate of the symbol at place left and its neighbour, if
// the two can merge, and reports whether it did. The heap's order is the
// caller's to restore.
func (m *bpe) offer(work *merger, left int32) bool {
	a := work.symbols[left]
	pair, ok := m.merges[pairKey(a.token, work.symbols[a.next].token)]
	if ok {
		order := uint64(uint32(pair.rank))<<32 | uint64(uint32(left))
		work.heap = append(work.heap, candidate{order, pair.token})
	}
	return ok
}

func (w *merger) heapify() {
	for i := len(w.heap)/2 - 1; i >= 0; i-- {
		w.down(i)
	}
}

func (w *merger) pop() candidate {
	best := w.heap[0]
	last := len(w.heap) - 1
	w.heap[0] = w.heap[last]
	w.heap = w.heap[:last]
	w.down(0)
	return best
}

// up moves the candidate at i towards the root until its parent is no larger.
func (w *merger) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if w.heap[parent].order <= w.heap[i].order {
			return
		}
		w.heap[parent], w.heap[i] = w.heap[i], w.heap[parent]
		i = parent
	}
}

// down moves the candidate at i away from the root until no child is smaller.
func (w *merger) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(w.heap) {
			return
		}
		if child+1 < len(w.heap) && w.heap[child+1].order < w.heap[child].order {
			child++
		}
		if w.heap[i].order <= w.heap[child].order {
			return
		}
		w.heap[i], w.heap[child] = w.heap[child], w.heap[i]
		i = child
	}
}
