package target

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/plumbline/plumbline/tcpx"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// The sysctls of Fast Open.
const (
	fastOpenSysctl    = "net.ipv4.tcp_fastopen"
	fastOpenKeySysctl = "net.ipv4.tcp_fastopen_key"
)

// fastOpenOption turns Linux's two settings into an option of tcpx. Bits of the
// first that Linux does not know either are ignored.
func fastOpenOption(flags, key string) (tcpx.Option, bool) {
	const client, server, clientNoCookie, serverNoCookie, allListeners = 1, 2, 4, 0x200, 0x400
	v := int64(0)
	if flags != "" {
		var ok bool
		if v, ok = number(flags); !ok {
			return nil, false
		}
	}
	keys, ok := fastOpenKeys(key)
	if !ok {
		return nil, false
	}
	c := tcpx.FastOpenConfig{
		Client: v&client != 0, Server: v&server != 0, Keys: keys, Experimental: true,
		ClientWithoutCookie: v&clientNoCookie != 0, ServerWithoutCookie: v&serverNoCookie != 0,
	}
	if v&allListeners != 0 {
		c.Backlog = -1
	}
	return tcpx.WithFastOpen(c), true
}

// fastOpenKeys reads one or two keys as Linux writes them: four numbers of 32 bits
// each, joined by dashes.
func fastOpenKeys(s string) (keys []tcpx.FastOpenKey, ok bool) {
	if s == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(s, ",") {
		words := strings.Split(strings.TrimSpace(part), "-")
		if len(words) != 4 || len(keys) == 2 {
			return nil, false
		}
		var key tcpx.FastOpenKey
		for i, w := range words {
			n, err := strconv.ParseUint(w, 16, 32)
			if err != nil {
				return nil, false
			}
			binary.LittleEndian.PutUint32(key[4*i:], uint32(n))
		}
		keys = append(keys, key)
	}
	return keys, true
}

// setFastOpenKey is TCP_FASTOPEN_KEY: one key or two, as octets.
func setFastOpenKey(s *socket, v any) tcpip.Error {
	e, has := s.ep.(*tcpx.Endpoint)
	if !has {
		return &tcpip.ErrUnknownProtocolOption{}
	}
	text, ok := v.(string)
	if !ok || len(text) != 16 && len(text) != 32 {
		return &tcpip.ErrInvalidOptionValue{}
	}
	var keys []tcpx.FastOpenKey
	for ; len(text) > 0; text = text[16:] {
		keys = append(keys, tcpx.FastOpenKey([]byte(text[:16])))
	}
	return e.SetFastOpenKeys(keys...)
}

// Forget implements [Forgetful].
func (n *netstack) Forget() { tcpx.FlushFastOpen(n.stack) }

// fastWrite is a write that begins the connection. A blocking call returns when
// the handshake is complete and all is taken, or with the error that the handshake
// ended in.
func (n *netstack) fastWrite(s *socket, c Write) (Pending, error) {
	if c.NoFamily {
		return n.immediate(fail("EOPNOTSUPP")), nil
	}
	if bad := c.Flags &^ (knownWrite | MsgFastOpen); bad != 0 {
		return nil, Unsupportedf("send flags %#x", uint32(bad))
	}
	data := append([]byte(nil), c.Data...)
	taken, err := s.ep.(FastOpener).ConnectWithData(fullAddress(c.To), bytes.NewReader(data))
	_, started := err.(*tcpip.ErrConnectStarted)
	switch wait := !s.nonblock && c.Flags&MsgDontWait == 0; {
	case err != nil && !(started && wait):
		return n.immediate(failed(err)), nil
	case !wait:
		return n.immediate(Result{Value: taken}), nil
	}
	rest := func() (Result, bool) {
		if s.ep.Readiness(waiter.WritableEvents)&waiter.WritableEvents == 0 {
			return Result{}, false
		}
		for {
			count, err := s.ep.Write(bytes.NewReader(data[taken:]), tcpip.WriteOptions{})
			taken += count
			switch {
			case err != nil && !isWouldBlock(err):
				return failed(err), true
			case taken == int64(len(data)):
				return Result{Value: taken}, true
			case err != nil || count == 0:
				return Result{}, false
			}
		}
	}
	return n.start(rest, timeoutOr(s.sendTimeout), func() Result { return Result{Value: taken} }), nil
}
