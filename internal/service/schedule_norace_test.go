//go:build !race

package service

const defaultSchedules = 1500
