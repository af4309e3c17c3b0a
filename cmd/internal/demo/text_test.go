package demo

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCountingTwoWays: what workers do line by line and what the independent
// count does with whole files must be the same for any text, or the demo would
// report differences that are its own.
func TestCountingTwoWays(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty":         "",
		"plain":         "One two, two\nthree three THREE\n",
		"no newline":    "a b\nb",
		"crlf":          "a\r\nb\r\n\r\n",
		"lone cr":       "a\rb",
		"unicode":       "Füße füße ÉTÉ été İstanbul ǅ ß x² Ⅷ\n日本語 テスト\n",
		"not utf-8":     "a\xffb \xc3\x28 caf\xe9 ok\n\xe2\x82\n",
		"broken by cut": "\xe2\n\x82\xac\n",
		"punctuation":   "don't stop--now; e-mail_me 3.14 §5\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]int{}
			for l := range strings.Lines(content) {
				for _, w := range words(strings.TrimRight(l, "\r\n")) {
					got[w]++
				}
			}
			if want := countWords([]byte(content)); !maps.Equal(got, want) {
				t.Errorf("by lines %v, by the file %v", got, want)
			}
		})
	}
}

func FuzzCountingTwoWays(f *testing.F) {
	f.Add([]byte("One two\nİ\xff\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got := map[string]int{}
		for l := range strings.Lines(string(content)) {
			for _, w := range words(strings.TrimRight(l, "\r\n")) {
				got[w]++
			}
		}
		if want := countWords(content); !maps.Equal(got, want) {
			t.Errorf("by lines %v, by the file %v", got, want)
		}
	})
}

func TestReadText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, content string) string {
		if err := os.MkdirAll(filepath.Dir(path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	a := write("a.md", strings.Repeat("to be\n\n", 25))
	b := write("sub/a.md", strings.Repeat("or not to be", 1)+"\n"+strings.Repeat("that\r\n", 30))

	got, err := readText([]string{a, b})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"to": 26, "be": 26, "or": 1, "not": 1, "that": 30}
	if !maps.Equal(got.counts, want) || got.words != 84 || len(got.lines) != 50+31 || got.files != 2 {
		t.Errorf("got %v, %d words, %d lines, %d files", got.counts, got.words, len(got.lines), got.files)
	}
	keys := map[string]bool{}
	for _, l := range got.lines {
		if keys[l.key] {
			t.Errorf("two lines have the key %s", l.key)
		}
		keys[l.key] = true
	}
	if l := got.lines[51]; l.text != "that" {
		t.Errorf("line %s is %q", l.key, l.text)
	}

	for name, paths := range map[string][]string{
		"missing":  {path("nowhere")},
		"short":    {write("short", strings.Repeat("word\n", minLines-1)+"--\n")},
		"too long": {write("long", strings.Repeat("x", maxLineBytes+1))},
		"a folder": {dir},
	} {
		if _, err := readText(paths); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"README.md", "LICENSE", "x.go", ".git/y.md", "proto/v1/z.proto", "sub/LICENSE.txt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := documents(dir)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range []string{"LICENSE", "README.md", "proto/v1/z.proto"} {
		want = append(want, filepath.Join(dir, name))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestThresholds: between any two failures, and after the last one, there are
// lines with words.
func TestThresholds(t *testing.T) {
	t.Parallel()
	for n := minLines; n < 3*minLines; n++ {
		for every := 1; every <= 3; every++ {
			var lines []line
			for i := range n * every {
				text := ""
				if i%every == 0 {
					text = fmt.Sprintf("word %d", i)
				}
				lines = append(lines, line{key: fmt.Sprint(i), text: text})
			}
			at := append(thresholds(lines, script()), len(lines))
			for i := 1; i < len(at); i++ {
				withWords := slices.ContainsFunc(lines[at[i-1]:at[i]], func(l line) bool { return l.text != "" })
				if at[i-1] < 1 || !withWords {
					t.Fatalf("%d lines, words in every %d: %v", n, every, at)
				}
			}
		}
	}
}
