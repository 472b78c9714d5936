//go:build tools

// Package tools keeps the programs that the tests build in the requirements of this module.
package tools

import _ "github.com/nats-io/nats-server/v2"
