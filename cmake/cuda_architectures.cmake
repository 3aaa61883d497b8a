# Which GPUs the CUDA module is built for, unless CMAKE_CUDA_ARCHITECTURES says it: those present, or
# without one a single architecture that every supported GPU runs, some by way of its PTX.

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80)
  find_program(nvidia_smi nvidia-smi)
  if(nvidia_smi)
    execute_process(
      COMMAND ${nvidia_smi} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE present OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
    if(NOT failed AND present MATCHES "^[0-9.\n ]+$")
      string(REPLACE "." "" present "${present}")
      string(REGEX REPLACE "[ \n]+" ";" present "${present}")
      list(REMOVE_DUPLICATES present)
      list(TRANSFORM present APPEND "-real")
      set(CMAKE_CUDA_ARCHITECTURES ${present})
    endif()
  endif()
  message(STATUS "CUDA architectures: ${CMAKE_CUDA_ARCHITECTURES}")
endif()
