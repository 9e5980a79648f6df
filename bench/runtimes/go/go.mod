module stellane/bench/go

go 1.19
