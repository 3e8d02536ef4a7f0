package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDigits is the longest integer that is read.
const maxDigits = 1000

// number reads an integer or a floating-point number.
func (l *lexer) number() error {
	begin := l.pos
	rest := l.src[begin:]
	for _, base := range []struct{ prefix, digits string }{
		{"0x", "0123456789abcdef"}, {"0o", "01234567"}, {"0b", "01"},
	} {
		if len(rest) > 2 && strings.EqualFold(rest[:2], base.prefix) && strings.IndexByte(base.digits, rest[2]|0x20) >= 0 {
			l.pos += 2
			for l.pos < len(l.src) && (l.src[l.pos] == '_' || strings.IndexByte(base.digits, l.src[l.pos]|0x20) >= 0) {
				l.pos++
			}
			return l.addNumber(begin, false)
		}
	}
	l.digits()
	float := false
	afterDot := begin > 0 && l.src[begin-1] == '.' // as in list.0.1
	if !afterDot {
		if l.at(0) == '.' && isDigit(l.at(1)) {
			float = true
			l.pos++
			l.digits()
		}
		float = l.exponent() || float
	}
	return l.addNumber(begin, float)
}

func (l *lexer) exponent() bool {
	if l.at(0)|0x20 != 'e' {
		return false
	}
	skip := 1
	if c := l.at(1); c == '+' || c == '-' {
		skip = 2
	}
	if !isDigit(l.at(skip)) {
		return false
	}
	l.pos += skip
	l.digits()
	return true
}

func (l *lexer) digits() {
	for isDigit(l.at(0)) || l.at(0) == '_' && isDigit(l.at(1)) {
		l.pos++
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (l *lexer) addNumber(begin int, float bool) error {
	literal := strings.ReplaceAll(l.src[begin:l.pos], "_", "")
	var value Value
	if float {
		f, _ := strconv.ParseFloat(literal, 64) // beyond the range it is infinite, as in Python
		value = Float(f)
	} else {
		if len(literal) > maxDigits {
			return l.errorf("a number has %d digits, at most %d are read", len(literal), maxDigits)
		}
		n, ok := new(big.Int).SetString(literal, 0)
		if !ok || len(literal) > 1 && isDigit(literal[1]) && literal[0] == '0' && n.Sign() != 0 {
			return l.errorf("the number %.40s is not valid", literal)
		}
		value = integer(n)
	}
	l.tokens = append(l.tokens, token{kind: tokenNumber, text: literal, value: value, line: l.lineAt(begin)})
	return nil
}

// integer returns the value of n.
func integer(n *big.Int) Value {
	if n.IsInt64() {
		return Int(n.Int64())
	}
	return Big{n}
}

// string reads a text in quotes with Python's escapes.
func (l *lexer) string(mark byte) error {
	begin := l.pos
	var out strings.Builder
	for i := begin + 1; i < len(l.src); {
		switch c := l.src[i]; c {
		case mark:
			l.add(tokenString, out.String(), begin)
			l.pos = i + 1
			return nil
		case '\\':
			size, err := l.escape(&out, l.src[i:])
			if err != nil {
				return err
			}
			i += size
		default:
			out.WriteByte(c)
			i++
		}
	}
	return l.errorf("a string has no closing quote")
}

// plainEscapes maps the letter of an escape to what it stands for.
var plainEscapes = map[byte]string{
	'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '\'': "'", '"': `"`,
	'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", '\n': "",
}

// escape writes what the escape at the beginning of s stands for and returns
// its length. An unknown escape stands for itself.
func (l *lexer) escape(out *strings.Builder, s string) (int, error) {
	if len(s) < 2 {
		return 0, l.errorf("a string has no closing quote")
	}
	if plain, ok := plainEscapes[s[1]]; ok {
		out.WriteString(plain)
		return 2, nil
	}
	digits, base := 0, 16
	switch c := s[1]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case '0' <= c && c <= '7':
		return octal(out, s), nil
	case c == 'N':
		return 0, l.errorf("characters by name (\\N) are not supported; write the character itself")
	default:
		out.WriteByte('\\')
		return 1, nil
	}
	if len(s) < 2+digits {
		return 0, l.errorf("the escape \\%c wants %d hexadecimal digits", s[1], digits)
	}
	n, err := strconv.ParseUint(s[2:2+digits], base, 32)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return 0, l.errorf("the escape %s is no character", quote(s[:2+digits]))
	}
	out.WriteRune(rune(n))
	return 2 + digits, nil
}

// octal writes the character of an escape of one to three octal digits.
func octal(out *strings.Builder, s string) int {
	n, i := rune(0), 1
	for i < len(s) && i < 4 && '0' <= s[i] && s[i] <= '7' {
		n = n<<3 | rune(s[i]-'0')
		i++
	}
	out.WriteRune(n)
	return i
}
