// Package chat turns conversations into prompts with the chat template of a
// model.
//
// In goes the template that a Hugging Face model directory holds, and a
// conversation: messages, tools and what else the template may ask for. Out
// comes the prompt, the same text as transformers' apply_chat_template gives, or
// the error that the template raises. The package never runs anything but the
// template language of package jinja, within its limits, and never looks at a
// clock: the time is part of the conversation.
package chat

import (
	"fmt"
	"time"

	"moec/runtime/chat/jinja"
)

// Value is a JSON value whose objects keep their order.
type Value = jinja.Value

// Message is one message: an object with "role", "content" and what else the
// template knows, such as "tool_calls".
type Message = *jinja.Dict

// NewMessage returns a message of plain text.
func NewMessage(role, content string) Message {
	m := jinja.NewDict()
	m.Set("role", jinja.Str(role))
	m.Set("content", jinja.Str(content))
	return m
}

// Conversation is what a prompt is made of.
type Conversation struct {
	Messages []Message
	// Tools describes the functions that the model may call, usually as objects
	// {"type": "function", "function": {...}}; nil if there are none.
	Tools []Value
	// AddGenerationPrompt ends the prompt where the model is to answer.
	AddGenerationPrompt bool
	// BOS and EOS are the spellings of the tokens that begin and end a text. Where
	// they are empty, those of the model directory are used.
	BOS, EOS string
	// Variables holds what else the template may read, such as enable_thinking.
	// They come before everything of the same name.
	Variables map[string]Value
	// Now is the time that the template may print.
	Now time.Time
}

// Template is a model's chat template. It does not change and may be used by
// many goroutines at once.
type Template struct {
	plain  *jinja.Template
	tools  *jinja.Template // for conversations with tools; usually the same
	tokens *jinja.Dict     // spellings of special tokens by name, such as bos_token
}

// Parse reads the source of a template. The name is for errors.
func Parse(name, source string) (*Template, error) {
	t, err := jinja.Parse(name, source)
	if err != nil {
		return nil, err
	}
	return &Template{plain: t, tools: t, tokens: jinja.NewDict()}, nil
}

// Token returns the spelling of a special token by its name in the model
// directory, such as "eos_token".
func (t *Template) Token(name string) (string, bool) {
	v, _ := t.tokens.Get(name)
	s, ok := v.(jinja.Str)
	return string(s), ok
}

// Render returns the prompt. What the template raises is a *jinja.Error of kind
// jinja.Raised.
func (t *Template) Render(c Conversation) (string, error) {
	vars := jinja.NewDict()
	for _, name := range t.tokens.Keys() {
		v, _ := t.tokens.Get(name)
		vars.Set(name, v)
	}
	if c.BOS != "" {
		vars.Set("bos_token", jinja.Str(c.BOS))
	}
	if c.EOS != "" {
		vars.Set("eos_token", jinja.Str(c.EOS))
	}
	messages := jinja.NewList()
	for i, m := range c.Messages {
		if m == nil {
			return "", fmt.Errorf("message %d is nil", i)
		}
		messages.Items = append(messages.Items, m)
	}
	vars.Set("messages", messages)
	vars.Set("documents", jinja.None{})
	vars.Set("add_generation_prompt", jinja.Bool(c.AddGenerationPrompt))
	template := t.plain
	vars.Set("tools", jinja.None{})
	if c.Tools != nil {
		template = t.tools
		vars.Set("tools", jinja.NewList(c.Tools...))
	}
	for name, v := range c.Variables {
		vars.Set(name, v)
	}
	return template.Render(jinja.Context{Variables: vars, Now: c.Now})
}
