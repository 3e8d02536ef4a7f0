package tokenizer

import "unicode/utf8"

// Byte-level models spell every byte as one printable character: a printable
// byte of Latin-1 as itself, any other, in order, as U+0100 and up (GPT-2's
// table). The space, for one, becomes Ġ.

// byteSpelling holds the character of each byte.
var byteSpelling = spellBytes()

// spelledByte holds, for each character below U+0180, the byte it stands for
// plus one, or 0.
var spelledByte = invert(byteSpelling)

func spellBytes() (table [256]rune) {
	next := rune(0x100)
	for b := range table {
		c := rune(b)
		printable := '!' <= c && c <= '~' || 0xa1 <= c && c != 0xad
		if !printable {
			c = next
			next++
		}
		table[b] = c
	}
	return table
}

func invert(spelling [256]rune) (table [smallRunes]uint16) {
	for b, c := range spelling {
		table[c] = uint16(b) + 1
	}
	return table
}

// appendSpelled appends the byte-level spelling of text.
func appendSpelled(out []byte, text string) []byte {
	for i := range len(text) {
		out = utf8.AppendRune(out, byteSpelling[text[i]])
	}
	return out
}

// appendUnspelled appends the bytes that token spells, or the token as it is if
// it holds a character that stands for no byte, as added tokens do.
func appendUnspelled(out []byte, token string) []byte {
	begin := len(out)
	for _, c := range token {
		if c >= smallRunes || spelledByte[c] == 0 {
			return append(out[:begin], token...)
		}
		out = append(out, byte(spelledByte[c]-1))
	}
	return out
}
