package kernel

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/internal/namespace"
	"github.com/plumbline/plumbline/linkendpoints/tap"
)

// sysctlWords returns the words of a setting of the initial namespace, none if there is no such setting.
func sysctlWords(name string) []string {
	text, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// loaded returns the kernel's names of the algorithms that are loaded.
func loaded() []string { return sysctlWords("tcp_available_congestion_control") }

// allowedAlgorithms returns those that anybody may use.
func allowedAlgorithms() []string { return sysctlWords("tcp_allowed_congestion_control") }

// bbrVersion returns the version of the kernel's bbr, "" for the first, which has no number.
func bbrVersion() string {
	text, err := os.ReadFile("/sys/module/tcp_bbr/version")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// Check says in one line why flows of these algorithms cannot run here, and what to do about it.
func Check(algorithms ...string) error {
	ns, err := namespace.New()
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(func() error {
		for _, a := range algorithms {
			s, err := open(func(fd int) error { return setAlgorithm(fd, a) })
			if err != nil {
				return err
			}
			s.Close()
		}
		s, err := open(func(fd int) error {
			_, err := tcpInfo(fd)
			return err
		})
		if err != nil {
			return err
		}
		s.Close()
		if version := bbrVersion(); version != "" && slices.Contains(algorithms, bbr1) {
			return fmt.Errorf("the bbr of this kernel is version %s, not bbr1: call it bbr", version)
		}
		device, err := tap.New(tap.Options{Name: deviceName, NoOffload: true})
		if err != nil {
			return err
		}
		device.Close()
		return nil
	})
}
