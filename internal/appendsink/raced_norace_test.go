//go:build !race

package appendsink

const raced = false
