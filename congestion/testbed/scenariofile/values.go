package scenariofile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// scalar returns the text of a plain or quoted value.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, nil
	}
	return "", fmt.Errorf("a single value is wanted")
}

// quantity splits a number with a unit and returns it in the smallest unit.
func quantity(text, what string, units map[string]float64) (float64, error) {
	i := strings.LastIndexAny(text, "0123456789.") + 1
	unit := strings.TrimSpace(text[i:])
	scale, known := units[unit]
	v, err := strconv.ParseFloat(strings.TrimSpace(text[:i]), 64)
	switch {
	case err != nil || !known:
		return 0, fmt.Errorf("%.40q is not a %s", text, what)
	case v < 0:
		return 0, fmt.Errorf("%.40s is negative", text)
	}
	return v * scale, nil
}

// textValue makes a decoder that stores a text.
func textValue(to *string) decode {
	return func(n ast.Node) (err error) {
		*to, err = scalar(n)
		return err
	}
}

func durationValue(to *time.Duration) decode {
	return func(n ast.Node) error {
		text, err := scalar(n)
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return fmt.Errorf(`%.40q is not a duration such as "20ms"`, text)
		case d < 0:
			return fmt.Errorf("%.40s is negative", text)
		}
		*to = d
		return nil
	}
}

var rateUnits = map[string]float64{"bit/s": 1, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}

func rateValue(to *emulated.BitRate) decode {
	return func(n ast.Node) error {
		text, err := scalar(n)
		if err != nil {
			return err
		}
		v, err := quantity(text, `rate such as "10Mbit/s"`, rateUnits)
		switch {
		case err != nil:
			return err
		case v < 1:
			return fmt.Errorf("%.40s is less than 1bit/s", text)
		case v > 1e13:
			return fmt.Errorf("%.40s is more than 10000Gbit/s", text)
		}
		*to = emulated.BitRate(v)
		return nil
	}
}

var sizeUnits = map[string]float64{"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20}

// sizeValue makes a decoder of a number of bytes, or, as no unit is needed, of a count.
func sizeValue[T int | int64 | uint32](to *T, least T) decode {
	return func(n ast.Node) error {
		text, err := scalar(n)
		if err != nil {
			return err
		}
		v, err := quantity(text, `size such as "100kB" or 1500`, sizeUnits)
		switch {
		case err != nil:
			return err
		case v != math.Trunc(v):
			return fmt.Errorf("%.40s is not whole", text)
		case v < float64(least):
			return fmt.Errorf("%.40s is less than %v", text, least)
		case v > math.MaxInt32:
			return fmt.Errorf("%.40s is more than %v", text, math.MaxInt32)
		}
		*to = T(v)
		return nil
	}
}

func probabilityValue(to *float64) decode {
	return func(n ast.Node) error {
		text, err := scalar(n)
		if err != nil {
			return err
		}
		v, err := quantity(text, `probability such as 0.01 or "1%"`, map[string]float64{"": 1, "%": 0.01})
		switch {
		case err != nil:
			return err
		case v > 1:
			return fmt.Errorf("%.40s is more than 1", text)
		}
		*to = v
		return nil
	}
}

// factorValue makes a decoder of a positive number.
func factorValue(to *float64, most float64) decode {
	return func(n ast.Node) error {
		text, err := scalar(n)
		if err != nil {
			return err
		}
		v, err := quantity(text, "number", map[string]float64{"": 1})
		switch {
		case err != nil:
			return err
		case !(v > 0 && v <= most):
			return fmt.Errorf("%.40s is not between 0 and %v", text, most)
		}
		*to = v
		return nil
	}
}

func seedValue(to *uint64) decode {
	return func(n ast.Node) error {
		text, err := scalar(n)
		if err != nil {
			return err
		}
		if *to, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("%.40q is not a seed: a whole number from 0 on", text)
		}
		return nil
	}
}

func boolValue(to *bool) decode {
	return func(n ast.Node) error {
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return fmt.Errorf("true or false is wanted")
		}
		*to = b.Value
		return nil
	}
}
