//go:build tools

// Package tools pins the reference programs that the tests run.
package tools

import _ "github.com/containernetworking/cni/cnitool"
