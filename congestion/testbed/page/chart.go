package page

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// A line is one curve of a chart.
type line struct {
	name string
	// colour is the number of a colour of the page, and dash that of a pattern.
	colour, dash int
	x, y         []float64
}

// A chart shows lines over time.
type chart struct {
	title, unit string // what the ordinate is, and in what unit
	lines       []line
	// limit, if not 0, is a horizontal line of reference, and limitName what it is.
	limit     float64
	limitName string
}

// The geometry of a chart in units of the drawing.
const (
	chartWidth, chartHeight = 560.0, 260.0
	left, right             = 58.0, 12.0
	top, bottom             = 12.0, 40.0
)

// ticks returns round numbers from 0 on that cover most, about n of them, in ascending order.
func ticks(most float64, n int) []float64 {
	if !(most > 0) || math.IsInf(most, 0) {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most/float64(n))))
	for _, m := range []float64{1, 2, 5, 10} {
		if most/(step*m) <= float64(n) {
			step *= m
			break
		}
	}
	var out []float64
	for i := 0; ; i++ {
		out = append(out, float64(i)*step)
		if out[i] >= most || i > 2*n {
			return out
		}
	}
}

// number writes a label of a tick or a bar in few digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + "M"
	case a >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
	case a >= 100 || a == math.Trunc(a):
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// svg draws the chart.
func (c *chart) svg() string {
	var mostX, mostY float64
	for _, l := range c.lines {
		for i := range l.x {
			mostX, mostY = max(mostX, l.x[i]), max(mostY, l.y[i])
		}
	}
	if c.limit > 0 && c.limit < 3*mostY {
		mostY = max(mostY, c.limit)
	}
	xs, ys := ticks(mostX, 8), ticks(mostY*1.02, 5)
	if mostX > 0 {
		for len(xs) > 1 && xs[len(xs)-1] > mostX {
			xs = xs[:len(xs)-1]
		}
	} else {
		mostX = 1
	}
	mostY = ys[len(ys)-1]
	px := func(x float64) float64 { return left + x/mostX*(chartWidth-left-right) }
	py := func(y float64) float64 { return chartHeight - bottom - y/mostY*(chartHeight-top-bottom) }

	var b strings.Builder
	label := html.EscapeString(c.title + " in " + c.unit + " over time")
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, label)
	for _, y := range ys {
		fmt.Fprintf(&b, `<path class="grid" d="M%g %.1fH%g"/><text class="end" x="%g" y="%.1f">%s</text>`, left, py(y), chartWidth-right, left-6, py(y)+4, number(y))
	}
	for _, x := range xs {
		fmt.Fprintf(&b, `<text class="mid" x="%.1f" y="%g">%s</text>`, px(x), chartHeight-bottom+16, number(x))
	}
	fmt.Fprintf(&b, `<text class="mid" x="%g" y="%g">time, s</text>`, (left+chartWidth-right)/2, chartHeight-6)
	fmt.Fprintf(&b, `<text class="mid" transform="translate(12 %g) rotate(-90)">%s</text>`, (top+chartHeight-bottom)/2, html.EscapeString(c.unit))
	if c.limit > 0 && c.limit <= mostY {
		fmt.Fprintf(&b, `<path class="limit" d="M%g %.1fH%g"><title>%s</title></path>`, left, py(c.limit), chartWidth-right, html.EscapeString(c.limitName))
	}
	for _, l := range c.lines {
		fmt.Fprintf(&b, `<path class="line c%d d%d" d="%s"><title>%s</title></path>`, l.colour, l.dash, l.path(px, py), html.EscapeString(l.name))
	}
	b.WriteString("</svg>")
	return b.String()
}

// path is the curve in SVG's notation, without the points that a straight line replaces.
func (l *line) path(px, py func(float64) float64) string {
	var b strings.Builder
	for i := range l.x {
		if i > 0 && i < len(l.x)-1 && l.y[i] == l.y[i-1] && l.y[i] == l.y[i+1] {
			continue
		}
		command := byte('L')
		if i == 0 {
			command = 'M'
		}
		b.WriteByte(command)
		b.WriteString(strconv.FormatFloat(px(l.x[i]), 'f', 1, 64))
		b.WriteByte(' ')
		b.WriteString(strconv.FormatFloat(py(l.y[i]), 'f', 1, 64))
	}
	return b.String()
}

// A bar is one of a bar chart: a value, and a second that reaches beyond it, 0 if there is none.
type bar struct {
	name          string
	colour        int
	value, beyond float64
}

// bars is a chart of horizontal bars in groups.
type bars struct {
	title, unit string
	groups      []barGroup
}

type barGroup struct {
	name string
	bars []bar
}

// svg draws the bars.
func (c *bars) svg() string {
	const row, gap, names, values = 20.0, 26.0, 130.0, 70.0
	height, most := 4.0, 0.0
	for _, g := range c.groups {
		height += gap + row*float64(len(g.bars)) + 6
		for _, b := range g.bars {
			most = max(most, b.value, b.beyond)
		}
	}
	if !(most > 0) {
		most = 1
	}
	scale := (chartWidth - names - values) / most
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, height, html.EscapeString(c.title+" in "+c.unit))
	y := 4.0
	for _, g := range c.groups {
		fmt.Fprintf(&b, `<text class="group" x="0" y="%g">%s</text>`, y+17, html.EscapeString(g.name))
		y += gap
		for _, v := range g.bars {
			text := number(v.value)
			if v.beyond > 0 {
				text += " … " + number(v.beyond)
				fmt.Fprintf(&b, `<rect class="bar beyond c%d" x="%g" y="%g" width="%.1f" height="%g"/>`, v.colour, names, y+6, v.beyond*scale, row-12)
			}
			fmt.Fprintf(&b, `<rect class="bar c%d" x="%g" y="%g" width="%.1f" height="%g"/>`, v.colour, names, y+2, v.value*scale, row-4)
			fmt.Fprintf(&b, `<text class="end" x="%g" y="%g">%s</text>`, names-6, y+14, html.EscapeString(v.name))
			fmt.Fprintf(&b, `<text x="%.1f" y="%g">%s</text>`, names+max(v.value, v.beyond)*scale+5, y+14, text)
			y += row
		}
		y += 6
	}
	b.WriteString("</svg>")
	return b.String()
}
