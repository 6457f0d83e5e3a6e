// Package page writes results of the testbed as one HTML page: charts of the comparison, a table, and for each scenario how throughput, queue, round-trip time,
// congestion window and flight went over time. The page needs nothing else: charts are SVG inside of it, there are no scripts, and it follows the
// reader's choice of a light or a dark display. The same results give the same page.
package page
