//go:build tools

// Package tools keeps the programs that the tests build in the requirements of this module.
package tools

import _ "go.etcd.io/etcd/server/v3"
