package sim

import "time"

// clock is a site's own. Within one life of the agent it runs on without a jump, as the process sees it: a little too fast or too slow. After a
// start it may say anything.
type clock struct {
	started time.Time // true time of the start
	says    time.Time // what it said then
	rate    float64
}

// wrongClocks are what a clock without a battery, or with a wrong one, says at a start, from the true time.
var wrongClocks = []func(now time.Time) time.Time{
	func(time.Time) time.Time { return time.Unix(0, 0).UTC() },
	func(now time.Time) time.Time { return now.AddDate(20, 0, 0) },
	func(now time.Time) time.Time { return now.Add(-36 * time.Hour) },
	func(now time.Time) time.Time { return now.Add(9 * 24 * time.Hour) },
}

func (w *World) newClock() clock {
	c := clock{started: w.now, says: w.now, rate: 1}
	if w.cfg.Clock > 0 {
		c.rate += (w.rng.Float64() - 0.5) * 0.002
	}
	if w.chance(w.cfg.Clock) {
		c.says = wrongClocks[w.rng.IntN(len(wrongClocks))](w.now)
	}
	return c
}

func (c clock) at(now time.Time) time.Time {
	return c.says.Add(time.Duration(float64(now.Sub(c.started)) * c.rate))
}

// when is the true time at which the clock will say what it is to say.
func (c clock) when(says time.Time) time.Time {
	return c.started.Add(time.Duration(float64(says.Sub(c.says))/c.rate) + 1)
}
