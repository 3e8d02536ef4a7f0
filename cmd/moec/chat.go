package main

import (
	"time"

	"moec/runtime/chat"
)

// render puts a prompt into the model's chat template.
func (f *promptFlags) render(m *model, text string) (string, error) {
	if m.dir == "" {
		return "", failf(exitUsage, "--chat needs --checkpoint DIR, whose chat template it uses")
	}
	t, err := chat.Load(m.dir)
	if err != nil {
		return "", fail(exitCheckpoint, err)
	}
	var messages []chat.Message
	if f.system != "" {
		messages = append(messages, chat.NewMessage("system", f.system))
	}
	messages = append(messages, chat.NewMessage("user", text))
	out, err := t.Render(chat.Conversation{Messages: messages, AddGenerationPrompt: true, Now: time.Now()})
	return out, fail(exitCheckpoint, err)
}
