package appendsink

import "github.com/rs/zerolog"

// seriesLog writes the name of a series into what is logged about it. A logger of its
// own, with the name in its context, would take as much memory as all else that is known
// of a series, and few series ever log anything.
type seriesLog struct {
	log  *zerolog.Logger
	name string
}

// Debug begins a message of that level, as a logger does.
func (l *seriesLog) Debug() *zerolog.Event { return l.log.Debug().Str("series", l.name) }

// Info begins a message of that level, as a logger does.
func (l *seriesLog) Info() *zerolog.Event { return l.log.Info().Str("series", l.name) }

// Warn begins a message of that level, as a logger does.
func (l *seriesLog) Warn() *zerolog.Event { return l.log.Warn().Str("series", l.name) }

// Error begins a message of that level, as a logger does.
func (l *seriesLog) Error() *zerolog.Event { return l.log.Error().Str("series", l.name) }
