module example.com/breeze

go 1.26.3

require github.com/plumbline/plumbline v0.0.0

replace github.com/plumbline/plumbline => ../../..
