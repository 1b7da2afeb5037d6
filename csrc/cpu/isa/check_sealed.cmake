# An ISA object may export its table and nothing else: a second symbol, weak ones above all, could be taken by the
# linker for the whole program and run on a machine without the instruction set.
if("$ENV{MLPFAST_SANITIZE}")
  return()  # sanitizers add symbols of their own
endif()
execute_process(COMMAND ${NM} --defined-only --extern-only ${OBJECT} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
string(STRIP "${symbols}" symbols)
string(REPLACE "\n" ";" symbols "${symbols}")
list(LENGTH symbols count)
if(failed OR NOT count EQUAL 1 OR NOT symbols MATCHES " [DR] [^ ]*isa_${NAME}")
  message(FATAL_ERROR "isa/${NAME}.cpp must export isa_${NAME} only, but exports:\n${symbols}")
endif()
