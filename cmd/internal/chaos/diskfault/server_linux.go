package diskfault

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
)

// Serve is a disk's process: it mounts the disk, does what in says until that
// ends, answers on out, and unmounts. Whoever uses a file system must not be who
// serves it, for a process that ends waits for its files to be closed, and nobody
// would be left to close them.
func Serve(dir, mountpoint string, in io.Reader, out io.Writer) (err error) {
	answers := json.NewEncoder(out)
	d, err := mount(dir, mountpoint)
	if err != nil {
		return errors.Join(answers.Encode(answerOf(err, Stats{})), err)
	}
	defer func() { err = errors.Join(err, d.unmount()) }()
	if err := answers.Encode(answer{}); err != nil {
		return err
	}
	orders := json.NewDecoder(in)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(answerOf(d.obey(o), d.counts())); err != nil {
			return err
		}
	}
}

// obey does what an order says.
func (d *disk) obey(o order) error {
	if o.Faults != nil {
		d.set(*o.Faults)
	}
	if !o.PowerCut {
		return nil
	}
	if o.Seed == nil {
		return d.powerCut(nil)
	}
	return d.powerCut(rand.New(rand.NewPCG(*o.Seed, 0)))
}
