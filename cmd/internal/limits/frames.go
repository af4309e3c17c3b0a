package limits

import "encoding/binary"

// Of HTTP/2, RFC 9113: what the meter looks at.
const (
	frameHeaderBytes = 9
	prefaceBytes     = 24 // "PRI * HTTP/2.0...", which a client sends first

	frameData    = 0x0
	frameHeaders = 0x1
	frameReset   = 0x3

	flagEndStream = 0x1
)

// frame is the header of one frame.
type frame struct {
	length uint32
	kind   byte
	flags  byte
	stream uint32
}

func (f frame) ends() bool {
	return f.kind == frameReset || f.flags&flagEndStream != 0 && f.kind == frameHeaders
}

// frameReader finds the headers of frames in what goes over a connection in one direction,
// however that is cut into pieces. It judges nothing: gRPC reads the same bytes and ends a
// connection on which they are no HTTP/2.
type frameReader struct {
	skip   uint32 // bytes that are of no interest, up to the next header
	header [frameHeaderBytes]byte
	have   int // bytes of header
}

// read tells of every frame whose header ends within b.
func (r *frameReader) read(b []byte, tell func(frame)) {
	for len(b) > 0 {
		if r.skip > 0 {
			n := min(r.skip, uint32(min(len(b), 1<<30)))
			r.skip -= n
			b = b[n:]
			continue
		}
		n := copy(r.header[r.have:], b)
		r.have += n
		b = b[n:]
		if r.have < frameHeaderBytes {
			return
		}
		f := frame{
			length: uint32(r.header[0])<<16 | uint32(r.header[1])<<8 | uint32(r.header[2]),
			kind:   r.header[3], flags: r.header[4],
			stream: binary.BigEndian.Uint32(r.header[5:]) &^ (1 << 31),
		}
		r.have, r.skip = 0, f.length
		tell(f)
	}
}
