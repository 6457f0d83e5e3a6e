//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "tunadapter: a TUN device needs Linux")
	os.Exit(1)
}
