//go:build tools

// Package tools names the etcd that the test cluster's API server stores into, so that go.mod pins it: the release line that kubeadm
// installs with the Kubernetes beside it.
package tools

import _ "go.etcd.io/etcd/server/v3"
