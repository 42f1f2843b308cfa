# every --help, and what an empty command line says
try ccc
try ccc --help
try ccc --version
for c in import compile opt eval inspect tune cache; do try ccc $c --help; done
try cccrt
try cccrt --help
try cccrt --version
for c in info verify prepare run bench tune; do try cccrt $c --help; done
try ccc import --list-architectures
try ccc opt --list-passes
