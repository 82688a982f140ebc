//go:build unix

package main

import (
	"errors"
	"os"

	"github.com/go-analyze/charts"
)

// drawn are the bars of the picture, from the top.
var drawn = []struct{ label, scenario, contender string }{
	{"bare client, AckAll", "series-16", bareAll},
	{"bare client, AckExplicit", "series-16", bareExplicit},
	{"Ossuary, 16 series", "series-16", plain},
	{"Ossuary, 16 series, appends of 20 ms", "series-16", plainSlow},
	{"Ossuary, 16 series, zstd", "series-16", zstandard},
	{"Ossuary, 16 series, gzip", "series-16", gzipped},
	{"Ossuary, 1 series", "series-1", plain},
	{"Ossuary, 1,000 series", "series-1000", known},
	{"Ossuary, 10,000 series", "series-10000", known},
	{"by hand, 500 an append", "series-16", hand500},
	{"by hand, 500 an append of 20 ms", "series-16", hand500Slow},
	{"by hand, one an append", "series-16", hand1},
	{"by hand, one an append of 20 ms", "series-16", hand1Slow},
}

// draw writes the picture of the medians of events per second, as SVG.
func (r *results) draw(file string) error {
	var labels []string
	var values []float64
	for i := len(drawn) - 1; i >= 0; i-- { // the chart begins at the bottom
		d := drawn[i]
		if rates := r.over(d.scenario, of(d.contender, figures.rate)); len(rates) > 0 {
			labels, values = append(labels, d.label), append(values, spreadOf(rates).Median)
		}
	}
	if len(values) == 0 {
		return errors.New("the picture shows paces, and no scenario that has them was measured; leave out --scenario or --svg")
	}
	o := charts.NewBarChartOptionWithData([][]float64{values})
	o.Horizontal = true
	o.Title.Text = "Events of 1 KiB per second, " + r.Machine
	o.Padding = charts.Box{Top: 20, Right: 60, Bottom: 20, Left: 20}
	o.Legend.Show = charts.Ptr(false)
	o.CategoryAxis = charts.CategoryAxisOption{Labels: labels}
	o.ValueAxis[0].Show = charts.Ptr(false) // the bars say it
	o.SeriesList[0].Label = charts.SeriesLabel{Show: charts.Ptr(true), ValueFormatter: thousands}
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: 900, Height: 120 + 34*len(values)})
	if err := p.BarChart(o); err != nil {
		return err
	}
	text, err := p.Bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
