package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// protoJSON keeps the contract's names and shows every field, so that a program
// need not know which ones are left out when they are zero.
var protoJSON = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// Message returns a message of the contract as JSON without blanks. (protobuf's
// own output has random ones.)
func Message(m proto.Message) (json.RawMessage, error) {
	text, err := protoJSON.Marshal(m)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// JSON prints a value, or a message of the contract, indented.
func JSON(w io.Writer, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	indented.WriteByte('\n')
	_, err = indented.WriteTo(w)
	return err
}

// JSONLine prints a value, or a message of the contract, on one line.
func JSONLine(w io.Writer, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// YAML prints what [JSON] does as YAML, with the fields in the same order.
func YAML(w io.Writer, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	var node yaml.Node // JSON is YAML; going through a node keeps the order
	if err := yaml.Unmarshal(text, &node); err != nil {
		return fmt.Errorf("as YAML: %w", err)
	}
	block(&node)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return err
	}
	return e.Close()
}

func encode(v any) (json.RawMessage, error) {
	if m, ok := v.(proto.Message); ok {
		return Message(m)
	}
	return json.Marshal(v)
}

// block removes the braces and quotes that a node has from JSON.
func block(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		block(c)
	}
}
