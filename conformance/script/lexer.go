package script

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// maxSource is the longest script that Parse reads, in octets.
const maxSource = 16 << 20

// tokenKind is the kind of a token.
type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokInt
	tokHex
	tokFloat
	tokWord
	tokString
	tokCommand  // `...`
	tokCode     // %{ ... }%
	tokEllipsis // ...
	tokOption   // --name
	tokPunct    // one character
)

// token is a lexical unit. Numbers keep their text: what a hexadecimal
// cookie means is not known before the parser sees it.
type token struct {
	kind tokenKind
	// text is the token as written, without the delimiters of strings,
	// commands, code and options. Escapes in strings are not resolved.
	text string
	// off and end bound the token in the source.
	off, end int
}

// is reports whether the token is the given punctuation or word.
func (t token) is(s string) bool {
	return (t.kind == tokPunct || t.kind == tokWord) && t.text == s
}

// describe names the token for an error message.
func (t token) describe() string {
	switch t.kind {
	case tokEOF:
		return "the end of the script"
	case tokString:
		return "a string"
	case tokCommand:
		return "a command in backquotes"
	case tokCode:
		return "a %{ }% block"
	case tokEllipsis:
		return `"..."`
	case tokOption:
		return "the option --" + clip(t.text)
	}
	return strconv.Quote(clip(t.text))
}

// clip shortens source text that goes into a message.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// comment is a comment of the source.
type comment struct {
	off  int
	line int // where it begins
	last int // where it ends
	own  bool
	text string
}

// lexer cuts a script into tokens. It never fails for good: after the first
// error every further token is tokEOF, and err keeps the error.
type lexer struct {
	file     string
	src      string
	off      int
	lines    []int             // offset of the start of every line
	defines  map[string]string // --define
	comments []comment
	ahead    []token
	last     int // end of the token that next returned last
	err      *Error
}

// newLexer returns a lexer at the start of src.
func newLexer(file, src string, defines map[string]string) *lexer {
	lx := &lexer{file: file, src: src, lines: []int{0}, defines: defines}
	if lx.defines == nil {
		lx.defines = map[string]string{}
	}
	for i := range len(src) {
		if src[i] == '\n' {
			lx.lines = append(lx.lines, i+1)
		}
	}
	return lx
}

// line returns the index of the line that holds off.
func (lx *lexer) line(off int) int {
	return sort.Search(len(lx.lines), func(i int) bool { return lx.lines[i] > off }) - 1
}

// position returns the position of off.
func (lx *lexer) position(off int) Position {
	i := lx.line(off)
	return Position{File: lx.file, Line: i + 1, Column: off - lx.lines[i] + 1}
}

// fail records an error at off unless there is one already.
func (lx *lexer) fail(off int, format string, args ...any) {
	if lx.err == nil {
		lx.err = &Error{Pos: lx.position(off), Msg: fmt.Sprintf(format, args...)}
	}
	lx.ahead = nil
}

// peek returns the token that next will return.
func (lx *lexer) peek() token { return lx.peekAt(0) }

// peekAt returns the token that the n-th call of next from here on returns,
// counted from 0.
func (lx *lexer) peekAt(n int) token {
	for len(lx.ahead) <= n && lx.err == nil {
		t := lx.scan()
		if lx.err != nil {
			break
		}
		lx.ahead = append(lx.ahead, t)
		lx.off = t.end
	}
	if lx.err != nil {
		return token{kind: tokEOF, off: lx.off, end: lx.off}
	}
	return lx.ahead[n]
}

// next returns the next token and moves behind it.
func (lx *lexer) next() token {
	t := lx.peek()
	if lx.err == nil {
		lx.ahead = lx.ahead[1:]
		lx.last = t.end
	}
	return t
}

// rewind drops what was peeked, so that the source can be read as text from
// where the next token begins. It returns that offset.
func (lx *lexer) rewind() int {
	if t := lx.peek(); lx.err == nil {
		lx.off = t.off
		lx.ahead = nil
	}
	return lx.off
}

// skipTo moves to off, behind text that was read without tokens.
func (lx *lexer) skipTo(off int) {
	lx.off, lx.last = off, off
	lx.ahead = nil
}

// scan returns the token that begins at or behind the current offset. It
// does not move; that is peekAt's to do.
func (lx *lexer) scan() token {
	lx.skipSpace()
	off := lx.off
	if lx.err != nil || off >= len(lx.src) {
		return token{kind: tokEOF, off: off, end: off}
	}
	rest := lx.src[off:]
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "..."):
		return lx.token(tokEllipsis, off, 3)
	case strings.HasPrefix(rest, "%{"):
		n := strings.Index(rest[2:], "}%")
		if n < 0 {
			lx.fail(off, "the %%{ block has no }%% to end it")
			return token{}
		}
		t := lx.token(tokCode, off, n+4)
		t.text = rest[2 : n+2]
		return t
	case c == '"':
		return lx.quoted(tokString, '"', "string")
	case c == '`':
		return lx.quoted(tokCommand, '`', "command")
	case strings.HasPrefix(rest, "--") && len(rest) > 2 && isWord(rest[2]):
		n := 2 + wordLen(rest[2:])
		t := lx.token(tokOption, off, n)
		t.text = rest[2:n]
		return t
	}
	if kind, n := number(rest); n > 0 && n >= wordLen(rest) {
		return lx.token(kind, off, n)
	}
	if n := wordLen(rest); n > 0 {
		return lx.define(lx.token(tokWord, off, n))
	}
	if rest[0] < ' ' || rest[0] > '~' {
		lx.fail(off, "the character %q is not part of the language", rest[0])
		return token{}
	}
	return lx.token(tokPunct, off, 1)
}

func (lx *lexer) token(kind tokenKind, off, n int) token {
	return token{kind: kind, text: lx.src[off : off+n], off: off, end: off + n}
}

// quoted scans a token between two delimiters. A backslash protects what
// follows it.
func (lx *lexer) quoted(kind tokenKind, delim byte, what string) token {
	for i := lx.off + 1; i < len(lx.src); i++ {
		switch lx.src[i] {
		case '\\':
			i++
		case delim:
			t := lx.token(kind, lx.off, i+1-lx.off)
			t.text = lx.src[lx.off+1 : i]
			return t
		}
	}
	lx.fail(lx.off, "the %s has no %c to end it", what, delim)
	return token{}
}

// define replaces a word that has a definition by what it stands for.
func (lx *lexer) define(t token) token {
	value, ok := lx.defines[t.text]
	if !ok {
		return t
	}
	t.text = value
	if len(value) >= 2 && value[0] == value[len(value)-1] && (value[0] == '"' || value[0] == '`') {
		t.text = value[1 : len(value)-1]
		t.kind = tokString
		if value[0] == '`' {
			t.kind = tokCommand
		}
		return t
	}
	if kind, n := number(value); n == len(value) {
		t.kind = kind
	}
	return t
}

// number returns the kind and the length of the number at the start of s, or
// 0 if there is none.
func number(s string) (tokenKind, int) {
	if len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		n := 2
		for n < len(s) && isHex(s[n]) {
			n++
		}
		if n > 2 {
			return tokHex, n
		}
	}
	start := 0
	if s != "" && s[0] == '-' {
		start = 1
	}
	n := start
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n+1 < len(s) && s[n] == '.' && isDigit(s[n+1]) {
		n++
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		return tokFloat, n
	}
	if n == start {
		return tokEOF, 0
	}
	return tokInt, n
}

// wordLen returns the length of the word at the start of s.
func wordLen(s string) int {
	n := 0
	for n < len(s) && isWord(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

func isWord(c byte) bool { return isLetter(c) || isDigit(c) }

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// skipSpace moves behind white space and comments, and keeps the comments.
func (lx *lexer) skipSpace() {
	for lx.off < len(lx.src) {
		rest := lx.src[lx.off:]
		switch {
		case isSpace(rest[0]):
			lx.off++
		case strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			lx.comment(n, rest[2:n])
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				lx.fail(lx.off, "the comment has no */ to end it")
				return
			}
			lx.comment(n+4, rest[2:n+2])
		default:
			return
		}
	}
}

// comment keeps a comment of n octets at the current offset, once, and moves
// behind it.
func (lx *lexer) comment(n int, text string) {
	off := lx.off
	lx.off += n
	if k := len(lx.comments); k > 0 && lx.comments[k-1].off >= off {
		return // The source was rewound.
	}
	first := lx.line(off)
	lx.comments = append(lx.comments, comment{
		off:  off,
		line: first,
		last: lx.line(lx.off),
		own:  strings.TrimSpace(lx.src[lx.lines[first]:off]) == "",
		text: text,
	})
}

// unescape resolves the escapes of C in the text of a string token.
func (lx *lexer) unescape(t token) string {
	if !strings.Contains(t.text, `\`) {
		return t.text
	}
	var b strings.Builder
	for s := t.text; s != ""; {
		if s[0] != '\\' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		c, n := escape(s)
		if n == 0 {
			lx.fail(t.off, "the string has an escape that is not known: %q", s[:min(len(s), 2)])
			return ""
		}
		b.WriteByte(c)
		s = s[n:]
	}
	return b.String()
}

// simpleEscapes are the escapes of one letter.
var simpleEscapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v',
	'\\': '\\', '"': '"', '\'': '\'', '?': '?',
}

// escape returns the octet that the escape at the start of s stands for, and
// the length of the escape; 0 if it is not known.
func escape(s string) (octet byte, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	if c, ok := simpleEscapes[s[1]]; ok {
		return c, 2
	}
	start, most, base := 1, 4, 8
	if s[1] == 'x' {
		start, most, base = 2, 4, 16
	}
	end := start
	for end < len(s) && end < most && isHex(s[end]) && (base == 16 || s[end] < '8') {
		end++
	}
	v, err := strconv.ParseUint(s[start:end], base, 8)
	if err != nil {
		return 0, 0
	}
	return byte(v), end
}
