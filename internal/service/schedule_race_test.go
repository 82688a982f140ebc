//go:build race

package service

// Ten times slower under the race detector.
const defaultSchedules = 150

// raceEnabled says that the race detector runs, for tests that then do less.
const raceEnabled = true
