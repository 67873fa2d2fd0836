# SPDX-License-Identifier: Apache-2.0
fib() { if (($1 < 2)); then r=$1; else fib $(($1 - 1)); local a=$r; fib $(($1 - 2)); r=$((a + r)); fi; }
while :; do
	fib 10
	v=(9 3 7 1)
	s=${v[*]//[37]/x}
	[[ $s =~ ([0-9])\ x ]]
	printf -v t '%05d' "$r"
done
