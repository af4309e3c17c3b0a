package main

import (
	"log/slog"
	"os"
	"os/signal"
	"sync"
)

// followSignals switches the level of a running server at every SIGUSR1, where there
// is such a signal, until stop is called.
func followSignals(level *slog.LevelVar, log *slog.Logger) (stop func()) {
	if len(levelSignals) == 0 {
		return func() {}
	}
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, levelSignals...)
	var following sync.WaitGroup
	following.Go(func() {
		other := otherLevel(level.Level())
		for {
			select {
			case <-signals:
				was := level.Level()
				level.Set(other)
				other = was
				log.Warn("log level changed", "from", was, "to", level.Level())
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		following.Wait()
	}
}

// otherLevel is what a configured level is switched with: debug, or info where that
// is configured.
func otherLevel(configured slog.Level) slog.Level {
	if configured == slog.LevelDebug {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
