/* Runs a SavedModel by TensorFlow's C API alone: no Python, as a server would.
 *
 *   run_saved_model FOLDER [-i OPERATION:INDEX TYPE DIMENSIONS FILE]... [-o OPERATION:INDEX FILE]...
 *
 * TYPE is float, int32, int64 or string; DIMENSIONS are like 1x32x24x3. An input's file holds its numbers as the machine
 * stores them, or, of a string, the bytes of its only element; an output's file is written likewise. Prints the shape of
 * each output. Exit status: 0, or 1 with "error CODE: message" on standard error, CODE being TensorFlow's.
 *
 *   cc run_saved_model.c -I.../tensorflow/include -L.../tensorflow -l:libtensorflow_cc.so.2
 *      -l:libtensorflow_framework.so.2
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

#define MOST 16 /* inputs, outputs, dimensions */

static void fail(const char* what, const char* which) {
  fprintf(stderr, "error: %s: %s\n", what, which);
  exit(1);
}

static void check(const TF_Status* status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "error %d: %s\n", (int)TF_GetCode(status), TF_Message(status));
    exit(1);
  }
}

static char* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  char* bytes;
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail("cannot read", path);
  *size = (size_t)ftell(file);
  rewind(file);
  bytes = malloc(*size + 1);
  if (bytes == NULL || fread(bytes, 1, *size, file) != *size) fail("cannot read", path);
  fclose(file);
  return bytes;
}

static void write_file(const char* path, const void* bytes, size_t size) {
  FILE* file = fopen(path, "wb");
  if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) fail("cannot write", path);
}

/* "operation:index" in the graph. */
static TF_Output output_called(TF_Graph* graph, char* name) {
  TF_Output output;
  char* colon = strrchr(name, ':');
  if (colon == NULL) fail("expected OPERATION:INDEX", name);
  *colon = '\0';
  output.oper = TF_GraphOperationByName(graph, name);
  output.index = atoi(colon + 1);
  if (output.oper == NULL) fail("no such operation", name);
  return output;
}

static TF_Tensor* input_from(const char* type, const char* dimensions, const char* path) {
  int64_t shape[MOST], count = 1;
  int rank = 0;
  size_t size, expected;
  char *bytes = read_file(path, &size), *rest = (char*)dimensions;
  TF_DataType kind = strcmp(type, "float") == 0    ? TF_FLOAT
                     : strcmp(type, "int32") == 0  ? TF_INT32
                     : strcmp(type, "int64") == 0  ? TF_INT64
                     : strcmp(type, "string") == 0 ? TF_STRING
                                                   : (TF_DataType)0;
  TF_Tensor* tensor;
  if (kind == 0) fail("unknown type", type);
  while (*rest != '\0' && rank < MOST) {
    shape[rank] = strtoll(rest, &rest, 10);
    count *= shape[rank++];
    if (*rest == 'x') ++rest;
  }
  if (kind == TF_STRING && count != 1) fail("a string input has one element", dimensions);
  expected = TF_DataTypeSize(kind) * (size_t)count;
  if (kind != TF_STRING && size != expected) fail("the file is not as long as its dimensions say", path);
  tensor = TF_AllocateTensor(kind, shape, rank, kind == TF_STRING ? sizeof(TF_TString) : size);
  if (kind == TF_STRING) {
    TF_TString* string = TF_TensorData(tensor);
    TF_StringInit(string);
    TF_StringCopy(string, bytes, size);
  } else {
    memcpy(TF_TensorData(tensor), bytes, size);
  }
  free(bytes);
  return tensor;
}

int main(int argc, char** argv) {
  const char* tags[] = {"serve"};
  const char* files[MOST];
  TF_Output inputs[MOST], outputs[MOST];
  TF_Tensor *given[MOST], *found[MOST];
  int input_count = 0, output_count = 0, index, axis;
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session;
  if (argc < 2) fail("usage", "run_saved_model FOLDER [-i NAME TYPE DIMENSIONS FILE]... [-o NAME FILE]...");
  session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);
  for (index = 2; index < argc;) {
    if (strcmp(argv[index], "-i") == 0 && index + 4 < argc && input_count < MOST) {
      inputs[input_count] = output_called(graph, argv[index + 1]);
      given[input_count++] = input_from(argv[index + 2], argv[index + 3], argv[index + 4]);
      index += 5;
    } else if (strcmp(argv[index], "-o") == 0 && index + 2 < argc && output_count < MOST) {
      outputs[output_count] = output_called(graph, argv[index + 1]);
      files[output_count++] = argv[index + 2];
      index += 3;
    } else {
      fail("not understood", argv[index]);
    }
  }
  TF_SessionRun(session, NULL, inputs, given, input_count, outputs, found, output_count, NULL, 0, NULL, status);
  check(status);
  for (index = 0; index < output_count; ++index) {
    for (axis = 0; axis < TF_NumDims(found[index]); ++axis) {
      printf("%s%lld", axis ? "x" : "", (long long)TF_Dim(found[index], axis));
    }
    printf("\n");
    if (TF_TensorType(found[index]) == TF_STRING) {
      const TF_TString* string = TF_TensorData(found[index]);
      write_file(files[index], TF_StringGetDataPointer(string), TF_StringGetSize(string));
    } else {
      write_file(files[index], TF_TensorData(found[index]), TF_TensorByteSize(found[index]));
    }
    TF_DeleteTensor(found[index]);
  }
  for (index = 0; index < input_count; ++index) {
    if (TF_TensorType(given[index]) == TF_STRING) TF_StringDealloc(TF_TensorData(given[index]));
    TF_DeleteTensor(given[index]);
  }
  TF_CloseSession(session, status);
  check(status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
