package chat

import (
	"fmt"
	"strings"
	"testing"
)

// longConversation has n turns of about 500 bytes.
func longConversation(n int) Conversation {
	c := Conversation{AddGenerationPrompt: true, BOS: "<s>", EOS: "</s>"}
	for i := range n {
		role := "user"
		if i%2 == 1 {
			role = "assistant"
		}
		c.Messages = append(c.Messages, NewMessage(role, fmt.Sprintf("%d %s", i, strings.Repeat("lorem ipsum ", 40))))
	}
	return c
}

// TestLongConversation checks that the default limits leave room: 10,001 turns
// are about a million tokens.
func TestLongConversation(t *testing.T) {
	c := longConversation(10001)
	for _, path := range []string{"testdata/qwen/chat_template.jinja", "testdata/mixtral/chat_template_system.jinja"} {
		if text, err := parseFile(t, path).Render(c); err != nil || len(text) < 4_800_000 {
			t.Errorf("%s: %d bytes, %v", path, len(text), err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	c := longConversation(101)
	for _, path := range []string{"testdata/qwen/chat_template.jinja", "testdata/mixtral/chat_template_mistral_common_v1.jinja"} {
		tmpl := parseFile(b, path)
		b.Run(strings.Split(path, "/")[1], func(b *testing.B) {
			for b.Loop() {
				if _, err := tmpl.Render(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
