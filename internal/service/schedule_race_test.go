//go:build race

package service

// Ten times slower under the race detector.
const defaultSchedules = 150
