package diskfault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
)

// order is a line that a disk's process is sent.
type order struct {
	// Faults, if there, replace those that are.
	Faults *Faults `json:"faults,omitempty"`
	// PowerCut loses what is not synced; with a Seed a part of it may stay.
	PowerCut bool    `json:"power_cut,omitempty"`
	Seed     *uint64 `json:"seed,omitempty"`
}

// answer is the line that it sends back, for every order and once when it is
// mounted.
type answer struct {
	Error       string `json:"error,omitempty"`
	Unavailable bool   `json:"unavailable,omitempty"`
	Stats       Stats  `json:"stats"`
}

func answerOf(err error, s Stats) answer {
	a := answer{Stats: s}
	if err != nil {
		a.Error, a.Unavailable = err.Error(), errors.Is(err, ErrUnavailable)
	}
	return a
}

// Disk is a disk with the process that serves it. Its methods are safe for
// concurrent use.
type Disk struct {
	cmd  *exec.Cmd
	stop io.Closer

	mu      sync.Mutex
	orders  *json.Encoder
	answers *json.Decoder
}

// Start starts a process that calls [Serve] on its standard streams, and returns
// when the disk is mounted. Files are kept in the folder that Serve is given:
// below data as they are, in attic what a power cut may bring back. The disk ends
// with this process, whatever ends that. Errors: ErrUnavailable.
func Start(cmd *exec.Cmd) (_ *Disk, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the process of a disk: %w", err)
	}
	d := &Disk{cmd: cmd, stop: in, orders: json.NewEncoder(in), answers: json.NewDecoder(out)}
	if _, err := d.answer(); err != nil {
		return nil, errors.Join(err, ignoreExit(d.Close()))
	}
	return d, nil
}

// ignoreExit drops the word of a process that has told why it failed.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// Set replaces the faults.
func (d *Disk) Set(f Faults) error {
	_, err := d.send(order{Faults: &f})
	return err
}

// PowerCut loses what was not synced. Nobody may have a file open.
func (d *Disk) PowerCut() error {
	_, err := d.send(order{PowerCut: true})
	return err
}

// TornPowerCut is PowerCut when some of it had reached the disk all the same: of
// every file the oldest writes, and of the changes of directories the oldest, as
// the seed draws.
func (d *Disk) TornPowerCut(seed uint64) error {
	_, err := d.send(order{PowerCut: true, Seed: &seed})
	return err
}

// Stats returns the present counts.
func (d *Disk) Stats() (Stats, error) { return d.send(order{}) }

// Close unmounts the disk and ends its process. What was not synced stays.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.stop.Close()
	return errors.Join(err, d.cmd.Wait())
}

func (d *Disk) send(o order) (Stats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.orders.Encode(o); err != nil {
		return Stats{}, fmt.Errorf("disk: %w", err)
	}
	return d.answer()
}

func (d *Disk) answer() (Stats, error) {
	var a answer
	err := d.answers.Decode(&a)
	switch {
	case err != nil:
		return Stats{}, fmt.Errorf("disk: %w", err)
	case a.Unavailable:
		return Stats{}, fmt.Errorf("%w: %s", ErrUnavailable, a.Error)
	case a.Error != "":
		return a.Stats, fmt.Errorf("disk: %s", a.Error)
	default:
		return a.Stats, nil
	}
}
