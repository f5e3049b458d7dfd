package main

import (
	"io"

	kjson "k8s.io/apimachinery/pkg/util/json"
)

// decode reads JSON as Kubernetes does: whole numbers become int64, others float64.
func decode(from io.Reader, into any) error {
	text, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	return kjson.Unmarshal(text, into)
}
