//go:build !race

package service

const defaultSchedules = 2000

const raceEnabled = false
