# SPDX-License-Identifier: LGPL-2.1-or-later
#
# gnuplot -e "data='DIR'; out='DIR'" plots.gp

set encoding utf8
set terminal pngcairo size 1000,560 font "DejaVu Sans,11" background "white"
blue = "#1f5fa8"
orange = "#e07b1a"
grey = "#8a8a8a"
green = "#3a8a3a"
set border 3 lc rgb "#444444"
set tics nomirror

# Every contender over all scenarios. A logarithmic axis: the errors span three decades.
set output out."/contenders.png"
set title "Error per VM over all scenarios, package energy"
set logscale x
set xrange [0.1:5000]
set xlabel "mean absolute percentage error, % (logarithmic)"
set yrange [11:-1]
set grid x lc rgb "#dddddd"
set lmargin 22
set format x "%g"
set arrow 1 from 1,-1 to 1,11 nohead dt 2 lc rgb grey
set arrow 2 from 3,-1 to 3,11 nohead dt 2 lc rgb grey
set label 1 "1 %" at 1,-0.6 offset 0.5,0 tc rgb grey
set label 2 "3 %" at 3,-0.6 offset 0.5,0 tc rgb grey
plot data."/contenders.dat" using 2:0:(0.1):2:($0-0.35):($0+0.35):($3 == 0 ? 0x1f5fa8 : 0xe07b1a):ytic(1) \
         with boxxyerror fs solid 0.9 noborder lc rgb variable notitle, \
     "" using 2:0:(sprintf($2 < 10 ? "%.2f" : "%.0f", $2)) with labels left offset 0.6,0 notitle, \
     NaN with boxes fs solid lc rgb blue title "virtjoule", \
     NaN with boxes fs solid lc rgb orange title "formulas of the field"
unset arrow 1
unset arrow 2
unset label 1
unset label 2

# Groups of scenarios, one row each.
set output out."/groups.png"
set title "Error per VM by group of scenarios, package energy, static power known"
set xrange [0.01:2000]
set yrange [12.6:-0.6]
set lmargin 28
set key outside bottom center horizontal
set bmargin 6
plot data."/groups.dat" using 2:0:ytic(1) with points pt 7 ps 1.6 lc rgb blue title "counters", \
     "" using 3:0 with points pt 6 ps 1.6 lw 2 lc rgb blue title "cputime", \
     "" using 4:0 with points pt 9 ps 1.5 lc rgb orange title "thesis", \
     "" using 5:0 with points pt 5 ps 1.3 lc rgb grey title "Kepler", \
     "" using 6:0 with points pt 4 ps 1.4 lw 2 lc rgb grey title "Scaphandre"

# The thesis' points.
set bmargin -1
unset logscale
set format x "%g"
set output out."/thesis.png"
set lmargin 9
set grid x y lc rgb "#dddddd"
set multiplot layout 1,2
set title "All VMs together, the thesis' formula"
set xlabel "stress-ng workers on the host"
set ylabel "power attributed to the VMs, W"
set xrange [-4:134]
set yrange [0:220]
set key inside bottom right vertical
plot data."/thesis.dat" using 1:2:3 with yerrorbars pt 7 ps 1.1 lc rgb orange title "published, ±2σ", \
     "" using 1:4 with points pt 2 ps 1.4 lw 2 lc rgb blue title "simulated"
set title "Each VM, the thesis' formula"
set xlabel "published, W"
set ylabel "simulated, W"
set xrange [0:85]
set yrange [0:85]
set size square
plot x with lines lc rgb grey dt 2 title "equal", \
     data."/thesis-vms.dat" with points pt 2 ps 1.2 lw 2 lc rgb blue title "VM"
unset multiplot
set size nosquare

# Learning the static power.
set terminal pngcairo size 1000,760
set output out."/baseline.png"
set lmargin 9
set xlabel "time, minutes"
set ylabel "package 0, W"
set key inside bottom right vertical
set multiplot layout 2,2
set yrange [0:*]
set xrange [0:20]
set title "20 to 90 % load, one socket"
plot data."/trace-0.dat" using 1:2 with lines lc rgb "#cccccc" title "measured", \
     "" using 1:3 with lines lw 2 lc rgb green title "true static", \
     data."/learned-0.dat" with lines lw 2 lc rgb blue title "learned"
set title "20 to 90 % load, one of two sockets, turbo steps"
plot data."/trace-1.dat" using 1:2 with lines lc rgb "#cccccc" notitle, \
     "" using 1:3 with lines lw 2 lc rgb green notitle, \
     data."/learned-1.dat" with lines lw 2 lc rgb blue notitle
set title "the cooling fails, 20 K an hour (axis from 15 W)"
set xrange [0:120]
set yrange [15:25]
plot data."/trace-2.dat" using 1:3 with lines lw 2 lc rgb green notitle, \
     data."/learned-2.dat" with lines lw 2 lc rgb blue notitle
set title "varied for ten minutes, then constant"
set xrange [0:60]
set yrange [0:*]
plot data."/trace-4.dat" using 1:2 with lines lc rgb "#cccccc" notitle, \
     "" using 1:3 with lines lw 2 lc rgb green notitle, \
     data."/learned-4.dat" with lines lw 2 lc rgb blue notitle
unset multiplot
