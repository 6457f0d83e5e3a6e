package runner

import (
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"strings"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// corpusDefines are the symbols that packetdrill's own tool for running its
// scripts defines on the command line, by version of IP, and STANDARD: of the
// two behaviours that some of FreeBSD's scripts have, it selects that of the
// RFCs.
var corpusDefines = map[IPVersion]map[string]string{
	4: {"STANDARD": "1", "CODE": "host_unreachable", "CMSG_LEVEL_IP": "SOL_IP", "CMSG_TYPE_RECVERR": "IP_RECVERR", "TFO_COOKIE": "3021b9d889017eeb", "TFO_COOKIE_ZERO": "b7c12350a90dc8f5"},
	6: {"STANDARD": "1", "CODE": "address_unreachable", "CMSG_LEVEL_IP": "SOL_IPV6", "CMSG_TYPE_RECVERR": "IPV6_RECVERR", "TFO_COOKIE": "c1d1e9742a47a9bc", "TFO_COOKIE_ZERO": "82af1a8f9a205c34"},
}

// CorpusDefines returns the symbols that the scripts of a corpus are parsed with,
// over one version of IP.
func CorpusDefines(ip IPVersion) map[string]string { return maps.Clone(corpusDefines[ip]) }

// CorpusAddrs are the addresses that the public scripts expect where they name
// any: the cookies of Fast Open in corpusDefines are made from them.
func CorpusAddrs() target.Addrs {
	a := target.DefaultAddrs()
	a.Local6, a.Remote6 = netip.MustParseAddr("fd3d:a0b:17d6::1"), netip.MustParseAddr("fd3d:fa7b:d17d::1")
	return a
}

// LoadCorpus reads the scripts below the root of fsys that were written for
// packetdrill. Each is parsed once for either version of IP, since
// symbols differ, and gets the profile "linux". A file that cannot be parsed is
// among the broken ones. The error is one of reading.
func LoadCorpus(fsys fs.FS) (scripts []*script.Script, broken []Broken, err error) {
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(path.Base(name), ".") && name != "." {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".pkt" {
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		parsed, err := parseForLinux(name, src)
		if err != nil {
			broken = append(broken, Broken{Name: name, Err: err})
			return nil
		}
		scripts = append(scripts, parsed...)
		return nil
	})
	return scripts, broken, err
}

// parseForLinux parses a script for both versions of IP.
func parseForLinux(name string, src []byte) ([]*script.Script, error) {
	var out []*script.Script
	for _, ip := range []IPVersion{4, 6} {
		s, err := script.ParseWith(name, src, corpusDefines[ip])
		if err != nil {
			return nil, err
		}
		set := script.IPv4
		if ip == 6 {
			set = script.IPv6
		}
		if s.Tags.IP &= set & versionsOf(s); s.Tags.IP == 0 {
			continue
		}
		s.Tags.Profile = script.ProfileLinux
		out = append(out, s)
	}
	return out, nil
}

// versionsOf returns the versions of IP that a script can be run over: one that
// names addresses is of the versions that it names some of, since the packets of
// those on Fast Open are made from them.
func versionsOf(s *script.Script) script.IPVersions {
	var named script.IPVersions
	for _, o := range s.Options {
		if o.Name != "local_ip" && o.Name != "remote_ip" {
			continue
		}
		host, _, _ := strings.Cut(o.Value, "/")
		switch a, err := netip.ParseAddr(host); {
		case err != nil:
		case a.Is4():
			named |= script.IPv4
		default:
			named |= script.IPv6
		}
	}
	if named == 0 {
		return script.BothIP
	}
	return named
}
